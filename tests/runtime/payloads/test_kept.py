"""Payloads, replay and feedback as users meet them: a real runtime, its clients, and the commands beside it."""

import io
import json
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner, Result

from appliance.audit.kinds import Erased, Exported, Feedback, Inference
from appliance.audit.reader import AuditReader
from appliance.audit.verify import verify
from appliance.config import StateConfig
from appliance.errors import RequestError, RequestLimit, UnknownRecord
from appliance.exits import exit_code
from appliance.notes import left
from appliance.payloads import PayloadReader
from appliance.signing import PublicKey
from runtime.client import EvidenceClient, InferenceClient
from tui.cli import app

ALL = '[payloads]\nkeep = "all"\n'


def holdfast(state: Path, *words: str) -> Result:
    return CliRunner().invoke(app, [*words, "--state", str(state)])


def ask(runtime: Any, images: np.ndarray, names: list[str]) -> None:
    with InferenceClient(runtime.address) as client:
        for row, name in enumerate(names):
            client.infer("digits", {"image": images[row : row + 1]}, request_id=name)


def wait_for_payload(state: Path, request_id: str) -> None:
    """Wait until the inputs of a request, and of all before it, are written: nobody else waits for that."""
    while holdfast(state, "audit", "show", request_id, "--payload", "--json").exit_code:
        time.sleep(0.02)


def wait_for_notes(state: Path) -> None:
    """Wait until the runtime has recorded what commands left for it."""
    while left(StateConfig(directory=str(state))):
        time.sleep(0.02)


def records(state: Path, request_id: str) -> list[Any]:
    with AuditReader(StateConfig(directory=str(state)).audit_log) as log:
        return [entry.record for entry in log.show(request_id)]


@pytest.fixture(scope="module")
def box(
    digits_state: Path, tmp_path_factory: pytest.TempPathFactory, held_out: dict[str, np.ndarray]
) -> Iterator[Any]:
    """A runtime that keeps everything and was asked twenty things."""
    import shutil

    from tests.conftest import runtimes

    directory = tmp_path_factory.mktemp("payloads")
    state = Path(shutil.copytree(digits_state, directory / "state"))
    with runtimes(directory) as start:
        running = start(state, ALL)
        running.decide("activate", 1)
        ask(running, held_out["image"], [f"q-{n}" for n in range(20)])
        wait_for_payload(running.state, "q-19")
        yield running
        assert running.stop() == 0


def test_a_picture_comes_back_as_it_was_sent(
    box: Any, tmp_path: Path, held_out: dict[str, np.ndarray]
) -> None:
    done = holdfast(box.state, "audit", "show", "q-3", "--payload", "--output", str(tmp_path))
    assert done.exit_code == 0, done.output
    assert "it fits its record" in done.stdout
    pixels = np.asarray(Image.open(io.BytesIO((tmp_path / "image-0.png").read_bytes())))
    assert (pixels == held_out["image"][3, :, :, 0]).all()
    told = json.loads(holdfast(box.state, "audit", "show", "q-3", "--payload", "--json").stdout)
    assert [(each["request_id"], each["why"]) for each in told] == [("q-3", "all")]


def test_what_is_erased_is_gone_and_the_log_verifies(box: Any) -> None:
    done = holdfast(box.state, "audit", "erase", "q-7", "--reason", "asked for")
    assert done.exit_code == 0, done.output
    inference, erased = records(box.state, "q-7")
    assert isinstance(inference, Inference)
    assert len(inference.payload_sha256) == 64
    assert isinstance(erased, Erased)
    assert (erased.reason, erased.count) == ("asked for", 1)
    gone = holdfast(box.state, "audit", "show", "q-7", "--payload")
    assert "erased: asked for" in gone.stderr
    again = holdfast(box.state, "audit", "erase", "q-7", "--reason", "again")
    assert "[payload.gone]" in again.stderr
    assert again.exit_code == gone.exit_code == 24
    state = StateConfig(directory=str(box.state))
    assert verify(state.audit_log, PublicKey.load(state.box_key.with_suffix(".pub"))).records > 20


def test_an_erasure_needs_a_reason(box: Any) -> None:
    done = holdfast(box.state, "audit", "erase", "q-8", "--reason", " ")
    assert done.exit_code == exit_code(RequestError("", remedy=""))


def test_replay_of_the_same_version_gives_the_same_bytes(box: Any) -> None:
    told = json.loads(
        holdfast(box.state, "replay", "digits", "--version", "1", "-n", "5", "--json").stdout
    )
    assert (told["requests"], told["identical"], told["differing"]) == (5, 5, [])
    assert {output["output"] for output in told["outputs"]} >= {"probabilities"}


def test_replay_of_another_version_says_how_it_differs(box: Any) -> None:
    done = holdfast(box.state, "replay", "digits", "--version", "2", "--since", "1h")
    assert done.exit_code == 0, done.output
    assert "0 of " in done.stdout
    assert "largest score" in done.stdout
    assert "Differing: q-0, q-1" in done.stdout


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--version", "9"), "version.unknown"),
        (("--version", "1", "--until", "2001-01-01"), "payload.gone"),
    ],
)
def test_what_cannot_be_replayed_is_told(box: Any, words: tuple[str, ...], told: str) -> None:
    assert told in holdfast(box.state, "replay", "digits", *words).stderr
    assert "write 2026-11-20" in holdfast(
        box.state, "replay", "digits", "--version", "1", "--since", "noon"
    ).stderr.replace("\n", " ")


def test_a_client_tells_what_was_true(box: Any, held_out: dict[str, np.ndarray]) -> None:
    with EvidenceClient(box.address) as client:
        sequence, model, version = client.feedback(
            "q-4", {"label": held_out["label"][4:5], "name": np.array(["four"])}, "by eye"
        )
    assert (model, version) == ("digits", 1)
    _inference, feedback = records(box.state, "q-4")
    assert isinstance(feedback, Feedback)
    assert feedback.note == "by eye"
    assert [tensor.name for tensor in feedback.truth] == ["label", "name"]
    assert sequence > 20


def test_an_operator_tells_what_was_true(box: Any) -> None:
    done = holdfast(box.state, "feedback", "q-5", "--truth", "label=3", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["version"] == 1
    shown = holdfast(box.state, "audit", "show", "q-5").stdout
    assert "truth label" in shown


@pytest.mark.parametrize(
    ("request_id", "truth", "note", "error"),
    [
        ("nobody", {"label": np.array([1])}, "", UnknownRecord),
        ("", {"label": np.array([1])}, "", UnknownRecord),
        ("q-1", {}, "", RequestError),
        ("q-1", {"": np.array([1])}, "", RequestError),
        ("q-1", {"label": np.zeros(10_000)}, "", RequestLimit),
        ("q-1", {}, "x" * 1001, RequestLimit),
    ],
)
def test_feedback_that_says_nothing_of_use_is_refused(
    box: Any, request_id: str, truth: dict[str, np.ndarray], note: str, error: type[Exception]
) -> None:
    with EvidenceClient(box.address) as client, pytest.raises(error):
        client.feedback(request_id, truth, note)


def test_a_new_version_is_run_with_what_was_kept(box: Any) -> None:
    box.decide("start_shadow", 2)
    told = box.wait_for("version.replayed")
    assert (told["version"], told["failed"]) == (2, 0)
    assert int(str(told["payloads"])) >= 18


def test_only_the_unsure_are_kept(
    state: Path, start_runtime: Callable[..., Any], held_out: dict[str, np.ndarray]
) -> None:
    """Digits that the model reads with little confidence; a sure one leaves its digest alone."""
    running = start_runtime(state, '[payloads]\nkeep = "unsure"\nconfidence_per_mille_min = 990\n')
    running.decide("activate", 1)
    names = [f"r-{n}" for n in range(40)]
    ask(running, held_out["image"], names)
    assert running.stop() == 0
    confidences = {}
    for name in names:
        (record,) = records(state, name)
        scores = next(t for t in record.outputs if t.name == "probabilities")
        confidences[name] = np.frombuffer(scores.data, np.float32).max(), record.payload_sha256
    assert 0 < sum(bool(sha256) for _, sha256 in confidences.values()) < 40
    assert all((score < 0.99) == bool(sha256) for score, sha256 in confidences.values())
    with PayloadReader(StateConfig(directory=str(state)).payloads) as reader:
        assert {kept.why for kept in reader.each("digits")} == {"unsure"}


def test_after_a_crash_what_is_kept_fits_its_record(
    state: Path, start_runtime: Callable[..., Any], held_out: dict[str, np.ndarray]
) -> None:
    running = start_runtime(state, ALL)
    running.decide("activate", 1)
    names = [f"r-{n}" for n in range(30)]
    ask(running, held_out["image"], names)
    running.process.send_signal(signal.SIGKILL)
    running.process.wait()
    running = start_runtime(state, ALL)
    ask(running, held_out["image"], ["after"])
    assert running.stop() == 0
    with PayloadReader(StateConfig(directory=str(state)).payloads) as reader:
        for name in [*names, "after"]:
            (record,) = records(state, name)
            kept = reader.find(record.payload_sha256)  # checked against its digest
            assert kept is None or kept.request_id == name
        assert reader.find(record.payload_sha256) is not None


def test_whoever_saw_a_payload_is_recorded(
    state: Path, start_runtime: Callable[..., Any], held_out: dict[str, np.ndarray]
) -> None:
    running = start_runtime(state, ALL)
    running.decide("activate", 1)
    ask(running, held_out["image"], ["r-0"])
    assert running.stop() == 0
    holdfast(state, "audit", "show", "r-0", "--payload")
    running = start_runtime(state, ALL)
    wait_for_notes(state)
    assert running.stop() == 0
    with AuditReader(StateConfig(directory=str(state)).audit_log) as log:
        (seen,) = log.tail(1, category="exported")
    assert isinstance(seen.record, Exported)
    assert (seen.record.what, seen.record.destination) == ("payload", "standard output")
    assert seen.record.by


def test_without_a_runtime_the_erasure_is_recorded_at_the_next_start(
    state: Path, start_runtime: Callable[..., Any], held_out: dict[str, np.ndarray]
) -> None:
    running = start_runtime(state, ALL)
    running.decide("activate", 1)
    ask(running, held_out["image"], ["r-0"])
    assert running.stop() == 0
    done = holdfast(state, "audit", "erase", "r-0", "--reason", "asked for")
    assert done.exit_code == 0, done.output
    assert "when the runtime starts" in done.stdout
    running = start_runtime(state, ALL)
    wait_for_notes(state)
    assert running.stop() == 0
    erased = records(state, "r-0")[-1]
    assert isinstance(erased, Erased)
    assert erased.reason == "asked for"
    assert erased.by
