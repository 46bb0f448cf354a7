"""A server under measurement: started, waited for, its processor time and memory read, stopped.

Knows: how our own server and the two echo servers are started. Rules: every server is its own session of
processes, so that all of it is counted and all of it ends; free ports, loopback only. Leaves to others:
the peers (`competitors`), the loads (`rounds`).
"""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from states import COMMANDS, HERE

READY_SECONDS_MAX = 90.0
STOP_SECONDS_MAX = 30.0
TICKS = os.sysconf("SC_CLK_TCK")
# As in the unit file: glibc keeps blocks of a picture's size, whose fresh pages cost more than the copy.
MALLOC = {
    "MALLOC_MMAP_THRESHOLD_": "67108864",
    "MALLOC_TRIM_THRESHOLD_": "268435456",
    "MALLOC_TOP_PAD_": "67108864",
}


@dataclass(slots=True, kw_only=True)
class Server:
    """A running server. `settings` is what a reader of the table must know of it."""

    name: str
    address: str
    process: subprocess.Popen
    settings: str
    models: frozenset[str] = frozenset()
    json_path: Mapping[str, str] = field(default_factory=dict)
    addresses: Mapping[str, str] = field(default_factory=dict)
    state: Path | None = None
    ours: bool = False
    peer: bool = False
    headline: bool = True
    started_s: float = 0.0

    def members(self) -> list[int]:
        """Process ids of all of it: its session, and whatever its processes started elsewhere."""
        parents, found = {}, set()
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                parents[int(entry.name)] = int(fields[1])
                if int(fields[3]) == self.process.pid:
                    found.add(int(entry.name))
        while more := {each for each, parent in parents.items() if parent in found} - found:
            found |= more
        return sorted(found)

    def cpu_seconds(self) -> float:
        """Processor time of all of it so far, user and system."""
        return sum(cpu_seconds(each) for each in self.members())

    def memory_mb(self) -> float:
        """Its share of memory (PSS) in MB, pages in common with others divided among them."""
        return sum(memory_kb(each) for each in self.members()) / 1000


def cpu_seconds(process: int) -> float:
    """Processor time of one process so far; 0 for one that is gone."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / TICKS


def memory_kb(process: int) -> int:
    """PSS of one process in kB; 0 for one that is gone."""
    try:
        text = Path(f"/proc/{process}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(
    command: list[object],
    log: Path,
    *,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Iterator[subprocess.Popen]:
    """Run a program in a session of its own, both outputs into `log`; ends all of it."""  # fmt: skip
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(word) for word in command], stdout=out, stderr=subprocess.STDOUT, cwd=directory,
            start_new_session=True, env={**os.environ, **(environment or {})},
        )  # fmt: skip
    shell = Server(name=log.stem, address="", process=process, settings="")
    try:
        yield process
    finally:
        end(shell)


def end(server: Server) -> None:
    """Ask all of it to stop, and kill what is left after a while."""
    members = server.members()
    server.process.send_signal(signal.SIGTERM)
    try:
        server.process.wait(STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        server.process.kill()
        server.process.wait()
    for each in members:
        if each != server.process.pid and Path(f"/proc/{each}").exists():
            os.kill(each, signal.SIGKILL)


def waited(process: subprocess.Popen, log: Path, ready: str) -> str:
    """The log once it contains `ready`. Raises SystemExit with the log when the process ends before."""
    until = time.monotonic() + READY_SECONDS_MAX
    while ready not in (text := log.read_text(errors="replace")):
        if process.poll() is not None or time.monotonic() > until:
            raise SystemExit(f"{log.stem} did not start:\n{text[-2000:]}")
        time.sleep(0.02)
    return text


@contextmanager
def holdfast(
    name: str,
    state: Path,
    root: Path,
    settings: Mapping[str, Mapping[str, object]],
    *,
    address: str = "127.0.0.1:0",
    wait: bool = True,
) -> Iterator[Server]:
    """Our server on a state directory, with `settings` (by table and key) over the defaults."""  # fmt: skip
    config, log = root / f"{name}.toml", root / f"{name}.log"
    tables = {
        "state": {"directory": str(state)},
        "server": {"address": address},
        "metrics": {"address": ""},
    }
    for table, values in settings.items():
        tables[table] = {**tables.get(table, {}), **values}
    lines = (
        f"[{table}]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in values.items())
        for table, values in tables.items()
    )
    config.write_text("\n".join(lines))
    told = ", ".join(
        f"{key} {value}" for values in settings.values() for key, value in values.items()
    )
    began = time.perf_counter()
    command = [COMMANDS / "holdfast-runtime", "--config", config]
    with running(command, log, environment=MALLOC) as process:
        if wait:
            text = waited(process, log, '"runtime.ready"')
            ready = next(line for line in text.splitlines() if '"runtime.ready"' in line)
            address = json.loads(ready)["address"]
        yield Server(
            name=name, address=address, process=process, settings=told, state=state, ours=True,
            started_s=time.perf_counter() - began,
        )  # fmt: skip


@contextmanager
def echo(name: str, command: list[object], root: Path, settings: str) -> Iterator[Server]:
    """A server that prints its port and answers ModelInfer with its own input."""
    log = root / f"{name}.log"
    with running(command, log) as process:
        port = waited(process, log, "\n").split()[0]
        yield Server(
            name=name, address=f"127.0.0.1:{port}", process=process, settings=settings,
        )  # fmt: skip


def plain_command() -> list[object]:
    """How the plain grpc.aio servicer is started."""
    return [sys.executable, HERE / "plain.py"]
