"""`holdfast drift check`, from the log of a box alone; no runtime is needed.

The rows are real: the digits model computes the drift vectors of images it has not seen, once as they
are and once darkened and noisy.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from typer.testing import CliRunner, Result

from appliance.audit.kinds import AnyRecord, Inference, Outcome
from appliance.audit.log import AuditLog
from appliance.clock import SystemClock
from appliance.config import StateConfig
from appliance.deployment import Deployment
from appliance.drift.report import DriftReport
from appliance.errors import UnknownVersion
from appliance.exits import DRIFT_FOUND, OK
from appliance.profiles import Profile
from appliance.signing import SigningKey
from appliance.store import Store
from runtime.servable import load_proven
from tui import livecheck
from tui.cli import app
from tui.livecheck import check_served

ROOT = Path(__file__).parents[2]
DIGEST = "0" * 64
DRIFT_FAILED, UNKNOWN = 25, 18
Vectors = dict[str, np.ndarray[Any, Any]]
Write = Callable[..., None]


@pytest.fixture(scope="module")
def vectors(digits_state: Path) -> Vectors:
    """Drift vectors of version 2, float32 (400, width): of clean and of disturbed images."""
    with np.load(ROOT / "examples" / "digits" / "traffic.npz") as archive:
        clean = archive["image"][:397]
    noise = np.random.default_rng(7).integers(0, 60, clean.shape)
    disturbed = np.clip(clean // 2 + noise, 0, 255).astype(np.uint8)
    servable = load_proven(Store(digits_state / "store").open("digits", 2), threads=1)
    found = {}
    for name, images in (("clean", clean), ("disturbed", disturbed)):
        parts = [servable.run([{"image": images[at : at + 32]}])[0] for at in range(0, 397, 32)]
        found[name] = np.concatenate([part.vectors for part in parts])
    servable.close()
    return found


@pytest.fixture
def write(state: Path) -> Write:
    """write(records...) makes the box's log."""

    def make(*records: AnyRecord) -> None:
        paths = StateConfig(directory=str(state))
        key = SigningKey.load_or_generate(paths.box_key)
        with AuditLog.open(paths.audit_log, key=key, clock=SystemClock()) as log:
            log.append(records)

    return make


@pytest.fixture
def run(state: Path) -> Callable[..., Result]:
    """run("digits") is `holdfast drift check digits --state <the test's box>`."""

    def command(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["drift", "check", *arguments, "--state", str(state)])

    return command


def active(version: int | None) -> Outcome:
    deployment = Deployment(model="digits", active=version)
    return Outcome(
        decision_id="d", model="digits", result="done", message="", deployment=deployment
    )


def answers(rows: np.ndarray[Any, Any], *, version: int = 2, each: int = 1) -> Iterator[Inference]:
    """Records of answered requests with `each` rows a request."""
    for at in range(0, len(rows), each):
        part = rows[at : at + each]
        yield Inference(
            request_id=f"r-{at}",
            model="digits",
            version=version,
            bundle_sha256=DIGEST,
            engine_sha256=DIGEST,
            recipe_sha256=DIGEST,
            route="active",
            principal="",
            peer="",
            rows=len(part),
            input_sha256=DIGEST,
            output_sha256=DIGEST,
            outputs=(),
            vector=part.astype("<f4").tobytes(),
            queue_ns=0,
            compute_ns=0,
            total_ns=0,
        )


def reports(state: Path) -> list[Path]:
    return sorted((state / "drift").glob("*.json"))


def test_clean_images_are_quiet(write: Write, run: Any, state: Path, vectors: Vectors) -> None:
    write(active(2), *answers(vectors["clean"]))
    result = run("digits")
    assert result.exit_code == OK, result.stderr
    assert result.stdout.startswith("digits version 2: quiet\n397 live rows")
    (report,) = reports(state)
    assert result.stdout.endswith(f"Report written to {report}\nVerdict: quiet\n")
    assert report.name == "digits-2-1-397.json"
    read = msgspec.json.decode(report.read_bytes(), type=DriftReport)
    assert read.verdict == "quiet"


def test_disturbed_images_are_found(write: Write, run: Any, vectors: Vectors) -> None:
    write(active(2), *answers(vectors["disturbed"]))
    result = run("digits")
    assert result.exit_code == DRIFT_FOUND
    lines = result.stdout.splitlines()
    assert lines[0] == "digits version 2: drift"
    worst = next(line for line in lines if line.startswith("pixels."))
    assert worst.endswith("drift  ") or worst.rstrip().endswith("drift")
    assert "and " in result.stdout
    assert "\u2588" in result.stdout
    assert "Reference" in result.stdout


def test_json_is_the_report_itself(write: Write, run: Any, state: Path, vectors: Vectors) -> None:
    write(active(2), *answers(vectors["disturbed"], each=8))
    result = run("digits", "--json")
    assert result.exit_code == DRIFT_FOUND
    (report,) = reports(state)
    assert json.loads(result.stdout) == json.loads(report.read_bytes())
    assert result.stderr == f"Report written to {report}\nVerdict: drift\n"


def test_the_same_records_give_the_same_report(
    write: Write, run: Any, state: Path, vectors: Vectors
) -> None:
    write(active(2), *answers(vectors["clean"]))
    run("digits")
    (report,) = reports(state)
    first = report.read_bytes()
    run("digits")
    assert [path.read_bytes() for path in reports(state)] == [first]


def test_only_the_last_rows_count(write: Write, run: Any, vectors: Vectors) -> None:
    write(active(2), *answers(vectors["disturbed"]), *answers(vectors["clean"]))
    assert run("digits", "--rows", "300").exit_code == OK
    assert run("digits", "--rows", "794").exit_code == DRIFT_FOUND


def test_only_rows_of_the_version_count(write: Write, run: Any, vectors: Vectors) -> None:
    mixed = interleaved(answers(vectors["clean"]), answers(vectors["disturbed"], version=1, each=1))
    write(active(2), *mixed)
    assert run("digits").exit_code == OK


def test_a_log_is_read_backwards_only_as_far_as_needed(
    write: Write, state: Path, vectors: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(livecheck, "_STRETCH_RECORDS", 100)
    write(active(2), *answers(vectors["disturbed"]), *answers(vectors["clean"]))
    told: list[tuple[int, int]] = []
    report = check_served(
        StateConfig(directory=str(state)),
        "digits",
        rows=250,
        progress=lambda found, wanted: told.append((found, wanted)),
    )
    assert told == [(100, 250), (200, 250), (250, 250)]
    assert (report.rows, report.first_sequence, report.last_sequence) == (250, 545, 794)


def test_another_version_by_number(write: Write, run: Any, vectors: Vectors) -> None:
    write(active(2), *answers(vectors["clean"], version=2))
    result = run("digits", "--version", "1")
    assert result.exit_code == DRIFT_FAILED
    assert "no drift vectors of digits version 1" in result.stderr
    result = run("digits", "--version", "9")
    assert result.exit_code == UNKNOWN
    assert UnknownVersion.code in result.stderr


@pytest.mark.parametrize("records", [(), (active(None),)], ids=["never decided", "none active"])
def test_nothing_is_active(write: Write, run: Any, records: Iterable[AnyRecord]) -> None:
    write(*records)
    result = run("digits")
    assert result.exit_code == DRIFT_FAILED
    assert "no version of 'digits' is active" in result.stderr
    assert "--version" in result.stderr


def test_a_model_without_drift_features_says_so(
    write: Write, run: Any, vectors: Vectors, monkeypatch: pytest.MonkeyPatch
) -> None:
    def featureless(*_: object) -> Profile:
        profile = real(*_)  # type: ignore[arg-type]
        layout = msgspec.structs.replace(profile.layout, parts=())
        return msgspec.structs.replace(profile, layout=layout, bins=())

    real = livecheck.read_profile
    monkeypatch.setattr(livecheck, "read_profile", featureless)
    write(active(2), *answers(vectors["clean"]))
    result = run("digits")
    assert result.exit_code == DRIFT_FAILED
    assert "has no drift features" in result.stderr


def interleaved(*streams: Iterator[Inference]) -> Iterator[Inference]:
    for each in zip(*streams, strict=True):
        yield from each


def test_values_that_went_missing_are_drawn(write: Write, run: Any, vectors: Vectors) -> None:
    holes = vectors["clean"].copy()
    holes[::2, 0] = np.nan
    write(active(2), *answers(holes))
    result = run("digits")
    assert result.exit_code == DRIFT_FOUND
    drawn = [line.split() for line in result.stdout.splitlines() if line.startswith("missing")]
    assert drawn
    assert drawn[0][:3] == ["missing", "0.0%", "50.1%"]


def test_a_version_whose_profile_is_gone(
    write: Write, run: Any, state: Path, vectors: Vectors
) -> None:
    (state / "store" / "digits" / "2" / "profile.json").unlink()
    write(active(2), *answers(vectors["clean"][:1]))
    assert run("digits").exit_code == UNKNOWN
