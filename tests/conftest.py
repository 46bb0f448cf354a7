"""What many tests share: a state directory with the digits model in it, and a runtime as its own process."""

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).parent.parent
# Compiled kernels are kept between runs, inside the repository and never in the home directory.
os.environ["NUMBA_CACHE_DIR"] = str(ROOT / "build" / "numba")
os.environ.pop("HOLDFAST_CONFIG", None)

# Time, of a case or of drawing some, says nothing where processors are shared; pytest-timeout bounds each test.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

# A shell that runs the tests in the background has children ignore Ctrl-C; here they are sent it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# For a runtime to do what it was told, however busy the machine is.
START_SECONDS_MAX = 150


def built_state(root: Path) -> Path:
    """A state directory below `root` with both digits versions built and nothing decided."""
    from appliance.config import Config, StateConfig
    from appliance.signing import SigningKey
    from compiler.build import build
    from compiler.pack import pack

    state, key = root / "state", SigningKey.generate()
    key.public.save(state / "trust" / "engineer.pub")
    for number in (1, 2):
        source = ROOT / "examples" / "digits" / f"digits-{number}.onnx"
        bundle = root / f"{number}.holdfast"
        pack(source, source.with_suffix(".toml"), bundle, key=key, in_process=True)
        build(bundle, Config(state=StateConfig(directory=str(state))), in_process=True)
    return state


@pytest.fixture(scope="session")
def digits_state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with both digits versions built and nothing decided; copy it, never use it."""
    return built_state(tmp_path_factory.mktemp("digits"))


@pytest.fixture
def state(digits_state: Path, tmp_path: Path) -> Path:
    """A state directory of the test's own, with both digits versions built."""
    return Path(shutil.copytree(digits_state, tmp_path / "state"))


@pytest.fixture(scope="session")
def held_out() -> dict[str, np.ndarray]:
    """The held-out digits: "image" UINT8 (rows, 8, 8, 1) and "label" INT64 (rows,)."""
    with np.load(ROOT / "examples" / "digits" / "held_out.npz") as archive:
        return {name: archive[name] for name in archive.files}


@dataclass(slots=True)
class Runtime:
    """A runtime process on free ports."""

    process: subprocess.Popen[bytes]
    state: Path
    journal: Path
    address: str = ""

    @property
    def socket(self) -> Path:
        """The control socket."""
        return self.state / "control.sock"

    def events(self) -> list[dict[str, object]]:
        """The journal's events so far; a line that is still being written is none yet."""
        lines = self.journal.read_bytes().rpartition(b"\n")[0].splitlines()
        return [json.loads(line) for line in lines if line.startswith(b"{")]

    def wait_for(self, event: str) -> dict[str, object]:
        """Wait until the journal has `event`; fails when the process ends first."""
        until = time.monotonic() + START_SECONDS_MAX
        while time.monotonic() < until:
            # Asked first: what it told at its end counts too.
            ended = self.process.poll() is not None
            found = [item for item in self.events() if item["event"] == event]
            if found:
                return found[-1]
            if ended:
                break
            time.sleep(0.02)
        raise AssertionError(f"no {event}:\n{self.journal.read_text()}")

    def decide(self, act: str, version: int = 0, *, per_mille: int = 0) -> None:
        """Decide about digits, as an operator does."""
        from runtime.client import ControlClient

        with ControlClient(self.socket) as control:
            control.decide(
                "digits", act, version, per_mille=per_mille, actor="test", reason="a test"
            )

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(START_SECONDS_MAX)


@contextmanager
def runtimes(directory: Path) -> Iterator[Callable[..., Runtime]]:
    """A function that starts runtimes; whatever still runs is killed at the end."""
    started: list[Runtime] = []

    def start(
        state: Path,
        settings: str = "",
        *,
        wait: bool = True,
        code: str = "from runtime.entry import main; main()",
    ) -> Runtime:
        number = len(started)
        config, journal = directory / f"{number}.toml", directory / f"{number}.log"
        if "[server]" not in settings:
            settings += '\n[server]\naddress = "127.0.0.1:0"\n'
        if "[metrics]" not in settings:
            settings += '\n[metrics]\naddress = "127.0.0.1:0"\n'
        config.write_text(f'[state]\ndirectory = "{state}"\n{settings}')
        with journal.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-c", code, "--config", config], stderr=log, cwd=ROOT
            )
        started.append(Runtime(process, state, journal))
        if wait:
            started[-1].address = str(started[-1].wait_for("runtime.ready")["address"])
        return started[-1]

    try:
        yield start
    finally:
        for runtime in started:
            if runtime.process.poll() is None:
                runtime.process.kill()
            runtime.process.wait()


@pytest.fixture
def start_runtime(tmp_path: Path) -> Iterator[Callable[..., Runtime]]:
    """Start a runtime on a state directory; `settings` is more TOML; `wait` for it to be ready; `code` is run."""
    with runtimes(tmp_path) as start:
        yield start


@pytest.fixture(scope="module")
def runtime(digits_state: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runtime]:
    """One runtime for a whole module, with version 1 of digits active."""
    directory = tmp_path_factory.mktemp("runtime")
    state = Path(shutil.copytree(digits_state, directory / "state"))
    with runtimes(directory) as start:
        running = start(state)
        running.decide("activate", 1)
        yield running
        assert running.stop() == 0


@pytest.fixture(scope="session")
def bert() -> ModuleType:
    """The bench's encoder, bench/bert.py: a transformer's graph of any size."""
    found = importlib.util.spec_from_file_location("bert", ROOT / "tests" / "bench" / "bert.py")
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["bert"] = module  # dataclasses look their module up there
    found.loader.exec_module(module)
    return module
