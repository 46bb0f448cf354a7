"""The units are what systemd accepts, as closed as we say, and agree with the configuration."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from appliance.config import ServerConfig, StateConfig
from appliance.keys import CREDENTIAL, NEXT_CREDENTIAL

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "systemd"
BINARIES = "/usr/lib/holdfast/bin"
SECURITY = "systemd-analyze security --no-pager --offline=true"
EXPOSURE_MAX = 20  # tenths: 2.0, where 10.0 is fully exposed (systemd-analyze security)

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed here"
)
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
services = pytest.mark.parametrize("unit", sorted(path.name for path in UNITS.glob("*.service")))


def setting(unit: str, key: str) -> list[str]:
    """Every value of `key` in `unit`, in order."""
    return re.findall(rf"^{key}=(.*)$", (UNITS / unit).read_text(), re.MULTILINE)


@needs_systemd
def test_systemd_accepts_every_unit(tmp_path: Path) -> None:
    """The units name programs that a checkout has not installed, so the copies name stand-ins."""
    stand_ins = tmp_path / "bin"
    stand_ins.mkdir()
    for name in ("holdfast", "holdfast-compile", "holdfast-runtime", "holdfast-inbox"):
        (stand_ins / name).symlink_to("/bin/true")
    names = []
    for source in sorted(UNITS.iterdir()):
        if source.suffix in {".service", ".path", ".timer", ".slice"}:
            copy = tmp_path / source.name.replace("@.", "@digits.")
            copy.write_text(source.read_text().replace(BINARIES, str(stand_ins)))
            names.append(str(copy))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *names],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "holdfast" in line]
    assert (done.returncode, ours) == (0, [])


GPU_UNITS = ("holdfast-build.service", "holdfast-refresh.service", "holdfast-runtime.service")


@needs_systemd
@pytest.mark.parametrize("unit", GPU_UNITS)
def test_the_drop_in_for_a_gpu_opens_its_devices_and_no_more(unit: str, tmp_path: Path) -> None:
    """systemd-analyze reads a copy of the unit that is written as systemd puts unit and drop-in together."""
    together = tmp_path / unit
    program = tmp_path / "true"
    program.symlink_to("/bin/true")
    text = (UNITS / unit).read_text() + (UNITS / "gpu.conf").read_text()
    together.write_text(re.sub(rf"(?:{BINARIES}|/usr/bin)/[\w-]+", str(program), text))
    verified = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(together)],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in verified.stderr.splitlines() if unit in line]
    assert (verified.returncode, ours) == (0, [])
    measured = subprocess.run(
        [*SECURITY.split(), f"--threshold={EXPOSURE_MAX}", together],
        capture_output=True,
        text=True,
        check=False,
    )
    assert measured.returncode == 0, measured.stdout
    assert setting("gpu.conf", "DevicePolicy") == []
    assert all(" rw" in allowed for allowed in setting("gpu.conf", "DeviceAllow"))


@needs_systemd
@services
def test_exposure_stays_low(unit: str) -> None:
    done = subprocess.run(
        [*SECURITY.split(), f"--threshold={EXPOSURE_MAX}", UNITS / unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


@needs_root
@pytest.mark.skipif(
    shutil.which("systemd-sysusers") is None, reason="systemd is not installed here"
)
def test_users_and_directories_are_made_as_the_units_need_them(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    for tool in (["systemd-sysusers"], ["systemd-tmpfiles", "--create"]):
        kind = tool[0].removeprefix("systemd-")
        subprocess.run([*tool, f"--root={tmp_path}", UNITS / f"holdfast.{kind}"], check=True)
    users = {
        name: int(uid)
        for name, _, uid, *_ in (
            line.split(":") for line in (tmp_path / "etc/passwd").read_text().splitlines()
        )
    }
    state = tmp_path / "var/lib/holdfast"
    owners = {path.name: path.stat().st_uid for path in state.iterdir()}
    assert owners["audit"] == owners["keys"] == users["holdfast"]
    assert owners["store"] == owners["inbox"] == users["holdfast-build"]
    assert owners["trust"] == 0
    assert (state / "keys").stat().st_mode & 0o777 == 0o700


@services
def test_every_process_is_kept_off_the_telemetry_host(unit: str) -> None:
    if unit.startswith("holdfast-drift"):
        assert setting(unit, "PrivateNetwork") == ["yes"]
    else:
        assert "ORT_DISABLE_TELEMETRY=1" in setting(unit, "Environment")


def test_the_service_manager_waits_longer_than_a_drain() -> None:
    (seconds,) = setting("holdfast-runtime.service", "TimeoutStopSec")
    assert int(seconds) > 2 * ServerConfig().drain_seconds


def test_what_loading_lowers_the_serving_process_may_raise_again() -> None:
    """See runtime.background; RLIMIT_NICE lets no thread go below nice 0."""
    assert setting("holdfast-runtime.service", "LimitNICE") == ["+0"]


def test_the_serving_process_cannot_change_versions_or_trust() -> None:
    (closed,) = setting("holdfast-runtime.service", "ReadOnlyPaths")
    state = StateConfig(directory="/var/lib/holdfast")
    assert {f"-{state.store}", f"-{state.trust}"} <= set(closed.split())


@pytest.mark.parametrize("unit", ["holdfast-build.service", "holdfast-refresh.service"])
def test_whoever_parses_models_sees_no_key_token_or_payload(unit: str) -> None:
    state = StateConfig(directory="/var/lib/holdfast")
    closed = " ".join(setting(unit, "InaccessiblePaths")).split()
    private = (state.box_key, state.tokens, state.payloads)
    assert {f"-{path.parent}" for path in private} <= set(closed)


@services
def test_no_unit_forbids_what_was_measured_to_be_needed(unit: str) -> None:
    """Numba needs writable code; onnxruntime reads /proc/cpuinfo."""
    assert not setting(unit, "MemoryDenyWriteExecute")
    assert not setting(unit, "ProcSubset")


@pytest.mark.parametrize("unit", ["holdfast-build.service", "holdfast-refresh.service"])
def test_a_build_may_fence_itself_in(unit: str) -> None:
    """@system-service does not hold Landlock's calls; a filter of calls is set by prctl, which it does."""
    allowed = " ".join(setting(unit, "SystemCallFilter")).split()
    assert {f"landlock_{act}" for act in ("create_ruleset", "add_rule", "restrict_self")} <= set(
        allowed
    )


def test_engines_are_made_anew_beside_the_runtime_and_not_before_it() -> None:
    unit = "holdfast-refresh.service"
    assert setting(unit, "After") == setting(unit, "WantedBy") == ["holdfast-runtime.service"]
    assert setting(unit, "Before") == []
    assert setting(unit, "Nice") == setting("holdfast-build.service", "Nice")
    assert setting(unit, "User") == setting("holdfast-build.service", "User")


def test_the_inbox_empties_into_built_and_refused(tmp_path: Path) -> None:
    inbox = tmp_path / "inbox"
    inbox.mkdir()
    compile_ = tmp_path / "holdfast-compile"
    compile_.write_text('#!/bin/sh\necho "$1 ${2##*/}"\ngrep -q good "$2"\n')
    compile_.chmod(0o755)
    (inbox / "a model.holdfast").write_text("good")
    (inbox / "b.holdfast").write_text("bad")
    (inbox / "c.part").write_text("still being copied")
    others = tmp_path / "of the build's user"
    others.write_text("whole")
    for link in (inbox / "b.log", inbox / "refused" / "b.log"):
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(others)

    done = subprocess.run(
        [UNITS / "holdfast-inbox", inbox],
        env={"HOLDFAST_COMPILE": str(compile_), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert {str(path.relative_to(inbox)) for path in inbox.rglob("*") if path.is_file()} == {
        "built/a model.holdfast",
        "built/a model.log",
        "refused/b.holdfast",
        "refused/b.log",
        "c.part",
        "b.log",
    }
    assert (inbox / "refused/b.log").read_text() == "build b.holdfast\n"
    assert others.read_text() == "whole", "no link is written through"


def test_the_runtime_is_handed_its_sealed_keys() -> None:
    """A credential without a path need not be there; the service manager looks in its own store."""
    assert setting("holdfast-runtime.service", "LoadCredentialEncrypted") == [
        CREDENTIAL,
        NEXT_CREDENTIAL,
    ]
