"""The fault matrix of installing a bundle, as real processes: at each state killed, failing, hanging.

Run as `install_faults.py BOX BUNDLE DIRECTORY`: BOX is a state directory with version 1 built, BUNDLE the
next one. Knows: where in a build each state begins and ends. Rules: each case gets a copy of the box and
two processes of its own, forked before any engine was loaded: one meets the fault, the next one builds as
if nothing had been. It prints what was found in between and after, a JSON line a case. Leaves to others:
what must hold (`test_install_faults`).
"""

import errno
import json
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from appliance import store as storing
from appliance.config import Config, EngineConfig, StateConfig
from appliance.errors import ApplianceError, StateError
from appliance.installs import Installs
from appliance.store import Store
from compiler import build as building
from compiler import installing
from compiler.compiling import compiling  # noqa: F401 - before the forks
from compiler.targets.onnxruntime_cpu import OnnxRuntimeTarget

POINTS = ("received", "verified", "building", "compiled", "proven", "published", "filed")
FAULTS = ("killed", "failing", "hanging")
HUNG, SECONDS_MAX = "hung", 150.0
TARGETS = (OnnxRuntimeTarget(),)  # loaded before the forks; one is enough to have an engine


def main(box: Path, bundle: Path, directory: Path) -> None:
    """Every case, one after another."""
    for point in POINTS:
        for fault in FAULTS:
            state = Path(shutil.copytree(box, directory / f"{point}-{fault}"))
            told = {"point": point, "fault": fault}
            strike = partial(meet, state, point, fault)
            told["first"] = in_process(state, bundle, strike, hung=state)
            told["between"] = seen(state)
            told["second"] = in_process(state, bundle, lambda: None)
            told["after"] = seen(state)
            print(json.dumps(told), flush=True)
            shutil.rmtree(state)
    for name, prepare in (("kill loop", kill_loop), ("no room", no_room)):
        state = Path(shutil.copytree(box, directory / name))
        print(json.dumps({"point": name} | prepare(state, bundle)), flush=True)


def kill_loop(state: Path, bundle: Path) -> dict:
    """Killed while building, again and again; then asked for in so many words."""
    killed = partial(meet, state, "building", "killed")
    rounds = [in_process(state, bundle, killed) for _ in range(4)]
    return {
        "rounds": rounds,
        "between": seen(state),
        "second": in_process(state, bundle, lambda: None, again=True),
        "after": seen(state),
    }


def no_room(state: Path, bundle: Path) -> dict:
    """A disk that takes no byte more: every write fails, as on one that is full or read-only."""

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    first = in_process(state, bundle, full)
    return {
        "first": first,
        "between": seen(state),
        "second": in_process(state, bundle, lambda: None),
        "after": seen(state),
    }


def in_process(
    state: Path,
    bundle: Path,
    prepare: Callable[[], None],
    *,
    hung: Path | None = None,
    again: bool = False,
) -> str:
    """Build in a process of its own; what it ended with: a version, an error's code, a signal."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        os.close(reading)
        prepare()
        os.write(writing, outcome(state, bundle, again=again).encode())
        os._exit(0)
    os.close(writing)
    if hung is not None:
        wait_or_kill(child, hung / HUNG)
    with os.fdopen(reading) as pipe:
        told = pipe.read()
    _, status = os.waitpid(child, 0)
    return told or signal.Signals(os.WTERMSIG(status)).name


def wait_or_kill(child: int, marker: Path) -> None:
    """Until it has ended; one that hangs says so by `marker`, and is killed as a supervisor would."""
    until = time.monotonic() + SECONDS_MAX
    while time.monotonic() < until:
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is not None:
            return
        if marker.exists():
            break
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)


def outcome(state: Path, bundle: Path, *, again: bool) -> str:
    """Build, and tell in a word."""
    try:
        built = building.build(bundle, config(state), in_process=True, again=again, targets=TARGETS)
    except ApplianceError as error:
        return error.code
    except OSError as error:
        return f"OSError {error.errno}"
    return f"version {built.version.number}"


def config(state: Path) -> Config:
    """The box's settings."""
    return Config(state=StateConfig(directory=str(state)), engine=EngineConfig(threads=1))


def seen(state: Path) -> dict:
    """What a server, and a person, find there."""
    store = Store(config(state).state.store)
    return {
        "versions": [store.open("tiny", number).number for number in store.versions("tiny")],
        "staged": len([path for path in (store.root / ".staging").iterdir() if path.is_dir()]),
        "installs": [
            [item.state, item.at, item.version] for item in Installs(store.installs).all()
        ],
    }


def meet(state: Path, point: str, fault: str) -> None:
    """Let this process meet `fault` as soon as `point` is reached."""
    strike = partial(strikes, state, fault)
    match point:
        case "received":
            struck(installing.Admission, "check_source", before=strike)
        case "verified":
            struck(Installs, "begin", after=strike, state=point)
        case "building" | "proven" | "filed":
            struck(Installs, "change", after=strike, state=point)
        case "compiled":
            struck(building, "with_report", before=strike)
        case "published":
            struck(storing, "publish_directory", after=strike)


def strikes(state: Path, fault: str) -> None:
    """The fault itself, in the process that meets it."""
    if fault == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if fault == "failing":
        error = OSError(errno.EIO, "Input/output error")
        raise StateError(f"cannot write: {error}", remedy="look at the disk") from error
    (state / HUNG).touch()
    while True:
        signal.pause()


def struck(
    owner: object,
    name: str,
    *,
    before: Callable[[], None] | None = None,
    after: Callable[[], None] | None = None,
    **wanted: object,
) -> None:
    """Let a call of `owner.name` with `wanted` among its arguments be struck before or after it."""
    real = getattr(owner, name)

    def call(*args: object, **named: object) -> object:
        meant = wanted.items() <= named.items()
        if before is not None and meant:
            before()
        result = real(*args, **named)
        if after is not None and meant:
            after()
        return result

    setattr(owner, name, call)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
