"""Load by h2load: closed loops and Poisson arrivals, each window from h2load's own log of every request.

Knows: h2load's options and log, and the slower Python load that stands in for it. Rules: rates and
percentiles come from the log, so that a window neither starts before its warm-up is over nor ends in the
middle of a batch; the load's processor time is told; whatever was not a reply is counted, never hidden.
Leaves to others: which loads are laid on which server (`rounds`).

h2load sees HTTP's status alone, and gRPC's errors travel under 200: the bytes of a reply, which a stock
client has checked before, are compared with those that came (`answered`).
"""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

INSTALL = "h2load is not installed; on Debian: apt-get install nghttp2-client"
FALLBACK = f"{INSTALL}; a Python load stands in for it, which costs more than most servers here"
INFER = "/inference.GRPCInferenceService/ModelInfer"
CONNECTIONS = 4
WARM_SHARE = 0.25
# Less of a window than this cannot tell its rate; completions this far apart are of different batches.
COUNTED_MIN, GROUP_US_MIN = 0.3, 2000
# The log of a fast server is megabytes a second: kept off the disk that the audit log syncs to.
LOGS = Path("/dev/shm") if Path("/dev/shm").is_dir() else None
_TRAFFIC = re.compile(r"traffic: .*?\((\d+)\) data")
_DONE = re.compile(r"requests: .* (\d+) succeeded, (\d+) failed, (\d+) errored")
_HTTP = re.compile(r"status codes: (\d+) 2xx")


class Silent(Exception):
    """A window in which nothing was answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Where a load goes: "host:port", what is posted there, and the bytes of a right reply."""

    address: str
    message: bytes
    reply_bytes: int
    path: str = INFER
    json: bool = False


@dataclass(slots=True, kw_only=True)
class Window:
    """What one load found. Rates a second, times in milliseconds, processor time in microseconds."""

    rate: float
    requests: int
    p50_ms: float
    p99_ms: float
    mean_ms: float
    answered: float
    client_us: float
    client_share: float
    sent: int = 0
    seconds: float = 0.0
    more: dict[str, float] = field(default_factory=dict)


def tool() -> str:
    """The load's program and version, or the sentence that tells what stands in for it."""
    if shutil.which("h2load") is None:
        return FALLBACK
    said = subprocess.run(["h2load", "--version"], capture_output=True, text=True, check=True)
    return said.stdout.strip()


def closed(target: Target, callers: int, seconds: float, root: Path) -> Window:
    """Keep `callers` requests in flight for `seconds`, after a warm-up that is not counted."""
    whole = seconds * (1.0 + WARM_SHARE)
    if shutil.which("h2load") is None:
        return by_python(target, callers, whole, root, warm=seconds * WARM_SHARE)
    connections = callers if target.json else min(callers, CONNECTIONS)
    streams = 1 if target.json else callers // connections
    options = [f"-c{connections}", f"-m{streams}", "-D", f"{round(whole * 1000)}ms"]
    return loaded(target, options, root, warm=seconds * WARM_SHARE)


def counted(target: Target, callers: int, requests: int, root: Path) -> Window:
    """Send exactly `requests` requests, `callers` at once. Needs h2load."""
    connections = min(callers, CONNECTIONS)
    options = [f"-c{connections}", f"-m{callers // connections}", f"-n{requests}"]
    return loaded(target, options, root, warm=0.0)


def poisson(target: Target, rate: float, seconds: float, seed: int, root: Path) -> Window:
    """Send on a Poisson schedule, whatever comes back. Needs h2load.

    h2load sets one timer after another, each up to a millisecond late, so that the rate offered is a little
    under `rate`; `more` holds the one that was kept. Good up to a few hundred a second.
    """
    gaps = np.random.default_rng(seed).exponential(1000.0 / rate, max(int(rate * seconds), 10))
    script = root / "arrivals"
    script.write_text("".join(f"{at:.3f}\t{target.path}\n" for at in np.cumsum(gaps)))
    options = [
        "-c1", "-m1000", f"-n{len(gaps)}", f"--timing-script-file={script}",
        "-B", f"http://{target.address}",
    ]  # fmt: skip
    return loaded(target, options, root, warm=0.0)


def loaded(target: Target, options: list[str], root: Path, *, warm: float) -> Window:
    """Run h2load and read its log. Raises SystemExit when it fails, Silent when nothing is answered."""
    log = (LOGS or root) / f"holdfast-bench-{os.getpid()}.log"
    body = root / "body"
    body.write_bytes(target.message if target.json else framed(target.message))
    kind = "application/json" if target.json else "application/grpc"
    command = [
        "h2load",
        "-t1",
        *options,
        "-d",
        body,
        f"--log-file={log}",
        "-H",
        f"content-type: {kind}",
    ]
    command += ["--h1"] if target.json else ["-H", "te: trailers"]
    if not any(option.startswith("--timing") for option in options):
        command.append(f"http://{target.address}{target.path}")
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as child:
            out = child.stdout.read().decode()
            _, status, usage = os.wait4(child.pid, 0)
            child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise SystemExit(f"h2load failed against {target.address}:\n{out}")
        rows = np.fromstring(log.read_text(), dtype=np.int64, sep=" ").reshape(-1, 3)
    finally:
        log.unlink(missing_ok=True)
    cpu = usage.ru_utime + usage.ru_stime
    window = read_log(rows, cpu, warm)
    window.answered = answered(out, target)
    return window


def framed(message: bytes) -> bytes:
    """A gRPC message as it stands in an HTTP/2 body: not compressed, four bytes of length."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def answered(out: str, target: Target) -> float:
    """The share of replies that were what the check before the load saw, by bytes and by HTTP status."""
    done, ok, data = _DONE.search(out), _HTTP.search(out), _TRAFFIC.search(out)
    if not (done and ok and data) or int(done[1]) == 0:
        raise Silent(f"nothing was answered by {target.address}:\n{out}")
    sent = int(done[1]) + int(done[2])
    by_status = int(ok[1]) / sent
    # JSON numbers differ in length from reply to reply, so only the status counts there.
    by_bytes = by_status if target.json else int(data[1]) / (sent * (target.reply_bytes + 5))
    return min(by_status, by_bytes, 1.0)


def read_log(rows: np.ndarray, cpu: float, warm: float) -> Window:
    """A window of rows (start in microseconds, HTTP status, microseconds taken).

    The rate is counted from the first completion after the warm-up to the last one, so that replies which
    come a batch at a time are not counted by halves; in a window too short for that, from its beginning.
    """
    rows = rows[rows[:, 1] >= 0]
    if not len(rows):
        raise Silent("nothing was answered")
    ends = rows[:, 0] + rows[:, 2]
    order = np.argsort(ends, kind="stable")
    rows, ends = rows[order], ends[order]
    began = rows[:, 0].min()
    whole = ends[-1] - began
    first = last_of_group(ends, min(int(np.searchsorted(ends, began + warm * 1e6)), len(ends) - 1))
    span, done = ends[-1] - ends[first], len(rows) - 1 - first
    if span < whole * COUNTED_MIN:
        span, done, first = whole, len(rows), -1
    taken = rows[first + 1 :, 2]
    p50, p99 = np.percentile(taken, [50, 99]) / 1000
    return Window(
        rate=float(done / max(span, 1) * 1e6),
        requests=done,
        p50_ms=float(p50),
        p99_ms=float(p99),
        mean_ms=float(taken.mean()) / 1000,
        answered=1.0,
        client_us=cpu * 1e6 / len(rows),
        client_share=float(cpu * 1e6 / max(whole, 1)),
        sent=len(rows),
        seconds=float(whole / 1e6),
        more={"offered": float((len(rows) - 1) / max(np.ptp(rows[:, 0]), 1) * 1e6)},
    )


def last_of_group(ends: np.ndarray, first: int) -> int:
    """The last of the group of completions that `first` stands in, or `first` where none is seen."""
    whole = ends[-1] - ends[first]
    wide = np.flatnonzero(np.diff(ends[first:]) > max(whole / 200, GROUP_US_MIN))
    if wide.size and ends[first + wide[0]] - ends[first] < whole / 4:
        return first + int(wide[0])
    return first


def by_python(target: Target, callers: int, seconds: float, root: Path, *, warm: float) -> Window:
    """The Python load of `load.py`, its log read in the same way; not for JSON."""
    if target.json:
        raise SystemExit(INSTALL)
    body, log = root / "body", root / "python.log"
    body.write_bytes(target.message)
    program = Path(__file__).parent / "load.py"
    before = os.times()
    subprocess.run(
        [sys.executable, program, target.address, body, str(callers), str(seconds), log], check=True
    )
    after = os.times()
    cpu = after.children_user + after.children_system
    cpu -= before.children_user + before.children_system
    rows = np.fromstring(log.read_text(), dtype=np.int64, sep=" ").reshape(-1, 3)
    window = read_log(rows, cpu, warm)
    window.answered = float(np.mean(rows[:, 1] == 200))
    return window
