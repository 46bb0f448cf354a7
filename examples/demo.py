"""The main job of Holdfast on real input, from two trained models to a drift report.

Everything here is what its users do: the engineer's and operator's commands as child processes, a client
written with the stock `tritonclient`. Run it with `make demo`; run it again as often as you like.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

EXAMPLES = Path(__file__).parent
COMMANDS = Path(sys.executable).parent
STATE = Path("holdfast-data")
START_SECONDS_MAX = 60
DRIFT_ROWS = 300
STEPS = 14
NO_DRIFT, DRIFT_FOUND = 0, 3


class DemoError(Exception):
    """A step did not do what it should; the message says which and what it printed."""


@dataclass(slots=True)
class Report:
    """What the summary shows, in order."""

    lines: list[tuple[str, str]] = field(default_factory=list)

    def add(self, what: str, found: str) -> None:
        """Note one finding."""
        self.lines.append((what, found))


def main() -> int:
    """Run the demo; returns the process's exit code."""
    console = Console(stderr=True)
    try:
        with _progress(console) as step:
            report = demo(step)
    except KeyboardInterrupt:
        console.print("interrupted; nothing is left running")
        return 130
    except (DemoError, OSError) as error:
        console.print("[bold red]the demo failed:")
        console.print(str(error), markup=False, highlight=False, soft_wrap=True)
        return 1
    show(report)
    return 0


def demo(step: Any) -> Report:
    """The steps, top down; each raises DemoError when it does not do what it should."""
    report = Report()
    step("making a signing key and trusting it")
    key = signing_key()
    for number in (1, 2):
        step(f"packing digits version {number}, checked against its held-out rows")
        bundle = pack(number, key)
        step(f"building and proving digits version {number} on this box")
        report.add(f"version {number} proven", build(bundle))
    with serving(step) as address:
        step("activating version 1")
        decide("activate", "digits", "1", reason="first version into service")
        step("sending held-out images with the stock client")
        client = triton.InferenceServerClient(address)
        report.add("held-out images right", accuracy(client))
        step("activating version 2 while requests flow")
        report.add("swap under load", swap_under_load(address))
        step("rolling back")
        decide("rollback", "digits", reason="to show the way back")
        report.add("after roll back", f"version {answering_version(client)} answers")
        step("checking drift on fresh, clean images")
        report.add("drift, clean images", drift_after(client, traffic(), expected=NO_DRIFT))
        step("checking drift on disturbed images")
        report.add(
            "drift, disturbed images", drift_after(client, disturbed(), expected=DRIFT_FOUND)
        )
        step("verifying the audit log")
        report.add("audit log", verify_log())
    step("done")
    return report


def signing_key() -> Path:
    """The engineer's private key, made at the first run; its public half is trusted by this box."""
    STATE.mkdir(mode=0o750, exist_ok=True)
    key = STATE / "demo" / "demo.pem"
    key.parent.mkdir(parents=True, exist_ok=True)
    if not key.exists():
        command("holdfast-compile", "keygen", str(key.with_suffix("")))
    trust = STATE / "trust" / "demo.pub"
    trust.parent.mkdir(exist_ok=True)
    trust.write_bytes(key.with_suffix(".pub").read_bytes())
    return key


def pack(number: int, key: Path) -> Path:
    """Pack one of the two digits models; returns the bundle."""
    source = EXAMPLES / "digits" / f"digits-{number}"
    bundle = STATE / "demo" / f"digits-{number}.holdfast"
    command(
        "holdfast-compile", "pack", f"{source}.onnx", "--spec", f"{source}.toml",
        "--key", str(key), "-o", str(bundle),
    )  # fmt: skip
    return bundle


def build(bundle: Path) -> str:
    """Build and prove a bundle; returns what was kept and what it reached."""
    built = json.loads(command("holdfast-compile", "build", str(bundle), "--json", *at_state()))
    record = built["record"]
    reached = [
        f"{item['threshold']['metric']} {item['value']:.3f}, "
        f"at least {item['threshold']['minimum']} agreed"
        for item in record["proof"]["reached"]
    ]
    return "; ".join([f"engine {record['engine']['kind']}", *reached])


@contextmanager
def serving(step: Any) -> Iterator[str]:
    """Run the runtime as its own process on free ports; yields its inference address."""
    step("starting the runtime")
    config = STATE / "demo" / "holdfast.toml"
    config.write_text(
        f'[state]\ndirectory = "{STATE}"\n'
        '[server]\naddress = "127.0.0.1:0"\n[metrics]\naddress = "127.0.0.1:0"\n'
    )
    journal = STATE / "demo" / "runtime.log"
    with journal.open("wb") as log:
        # A session of its own: Ctrl-C reaches the demo alone, which then stops the runtime in order.
        runtime = subprocess.Popen(
            [COMMANDS / "holdfast-runtime", "--config", config], stderr=log, start_new_session=True
        )
    try:
        yield ready_address(runtime, journal)
    finally:
        runtime.send_signal(signal.SIGTERM)
        runtime.wait()


def ready_address(runtime: subprocess.Popen[bytes], journal: Path) -> str:
    """Wait for the runtime's `runtime.ready` line and return the address in it."""
    until = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < until:
        for line in journal.read_text().splitlines():
            if line.startswith("{") and json.loads(line)["event"] == "runtime.ready":
                return str(json.loads(line)["address"])
        if runtime.poll() is not None:
            raise DemoError(f"the runtime did not start:\n{journal.read_text()}")
        time.sleep(0.05)
    raise DemoError(f"the runtime is not ready after {START_SECONDS_MAX} s; see {journal}")


def decide(act: str, *names: str, reason: str) -> None:
    """Let the operator decide, unless the model already stands so from an earlier run."""
    if act == "activate" and str(active_version()) == names[1]:
        return
    command("holdfast", act, *names, "--reason", reason, "--yes", *at_state())


def active_version() -> int:
    """The active version of digits, 0 for none."""
    (model,) = json.loads(command("holdfast", "versions", "digits", "--json", *at_state()))
    if any(version["role"] == "retired" for version in model["versions"]):
        raise DemoError(
            f"a version of digits was retired in {STATE}/ since the last run, for good.\n"
            f"To see the demo again, start anew: rm -r {STATE}"
        )
    return int(model["active"] or 0)


def ask(client: triton.InferenceServerClient, images: np.ndarray[Any, Any]) -> Any:
    """One request of a few images; nothing in it knows of Holdfast."""
    tensor = triton.InferInput("image", list(images.shape), "UINT8")
    tensor.set_data_from_numpy(images)
    return client.infer("digits", [tensor])


def accuracy(client: triton.InferenceServerClient) -> str:
    """Send every held-out image in requests of 8 and compare the first label with the truth."""
    rows = np.load(EXAMPLES / "digits" / "held_out.npz")
    right = 0
    for start in range(0, len(rows["label"]), 8):
        part = slice(start, start + 8)
        classes = ask(client, rows["image"][part]).as_numpy("classes")[:, 0]
        right += int((classes == rows["label"][part]).sum())
    return f"{right} of {len(rows['label'])}"


def swap_under_load(address: str) -> str:
    """Send requests from four threads while version 2 is activated; none may fail."""
    answers: list[str] = []
    failures: list[str] = []
    stop = threading.Event()
    workers = [
        threading.Thread(target=_keep_asking, args=(address, stop, answers, failures))
        for _ in range(4)
    ]
    for worker in workers:
        worker.start()
    try:
        decide("activate", "digits", "2", reason="reads more digits right")
        before = len(answers)
        while len(answers) < before + 100 and not failures:
            time.sleep(0.01)
    finally:
        stop.set()
        for worker in workers:
            worker.join()
    if failures:
        raise DemoError(f"{len(failures)} requests failed during the swap: {failures[0]}")
    if answers[-1] != "2":
        raise DemoError(f"version {answers[-1]} answers after version 2 was activated")
    return f"{len(answers)} requests, 0 failed"


def _keep_asking(
    address: str, stop: threading.Event, answers: list[str], failures: list[str]
) -> None:
    images = np.load(EXAMPLES / "digits" / "held_out.npz")["image"][:1]
    client = triton.InferenceServerClient(address)
    while not stop.is_set():
        try:
            answers.append(ask(client, images).get_response().model_version)
        except triton.InferenceServerException as error:
            failures.append(str(error))
            return


def answering_version(client: triton.InferenceServerClient) -> str:
    """Which version answers a request that names none."""
    return str(ask(client, traffic()[:1]).get_response().model_version)


def traffic() -> np.ndarray[Any, Any]:
    """Images that neither training nor the reference profile has seen."""
    return np.load(EXAMPLES / "digits" / "traffic.npz")["image"][:DRIFT_ROWS]


def disturbed() -> np.ndarray[Any, Any]:
    """The same images as a dirty, badly lit sensor would give them: half the ink, and noise."""
    noise = np.random.default_rng(7).integers(0, 60, traffic().shape)
    return np.clip(traffic() // 2 + noise, 0, 255).astype(np.uint8)


def drift_after(
    client: triton.InferenceServerClient, images: np.ndarray[Any, Any], *, expected: int
) -> str:
    """Send `images` one by one, then check the log's newest rows offline."""
    for row in range(len(images)):
        ask(client, images[row : row + 1])
    out = command(
        "holdfast", "drift", "check", "digits", "--rows", str(len(images)), "--json", *at_state(),
        exits=expected,
    )  # fmt: skip
    findings = json.loads(out)["findings"]
    drifted = [item["feature"] for item in findings if item["verdict"] == "drift"]
    more = f" and {len(drifted) - 3} more" if len(drifted) > 3 else ""
    told = f"drift in {', '.join(drifted[:3])}{more}" if drifted else "quiet"
    return f"{told} ({len(images)} rows, {len(findings)} features)"


def verify_log() -> str:
    """Re-read the whole log; returns how many records and checkpoints hold."""
    found = json.loads(command("holdfast", "audit", "verify", "--json", *at_state()))
    return f"{found['records']} records verified, {found['checkpoints']} signed checkpoints"


def at_state() -> tuple[str, str]:
    """The option that names the demo's state directory."""
    return "--state", str(STATE)


def command(program: str, *arguments: str, exits: int = 0) -> str:
    """Run one of our commands and return its standard output; DemoError on another exit code."""
    done = subprocess.run(
        [COMMANDS / program, *arguments], capture_output=True, text=True, check=False,
        env=os.environ | {"NO_COLOR": "1"},
    )  # fmt: skip
    if done.returncode != exits:
        raise DemoError(
            f"`{program} {' '.join(arguments)}` ended with {done.returncode}, not {exits}:\n"
            f"{done.stdout}{done.stderr}"
        )
    return done.stdout


@contextmanager
def _progress(console: Console) -> Iterator[Any]:
    columns = (
        TaskProgressColumn(),
        BarColumn(bar_width=20),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("starting", total=STEPS)

        def step(what: str) -> None:
            if console.is_terminal:
                progress.update(task, description=what, advance=1)
            else:
                console.print(what)

        yield step


def show(report: Report) -> None:
    """Print the summary and what to try next."""
    console = Console()
    table = Table(title="Holdfast served digits from this box", show_header=False)
    for what, found in report.lines:
        table.add_row(what, found)
    console.print(table)
    console.print(
        f"""
State, keys, versions, audit log and drift reports are in {STATE}/.
Try next, from here:
  .venv/bin/holdfast-runtime             serve: port 8001, metrics on port 9464
  .venv/bin/holdfast                     the console, in a second terminal
  .venv/bin/holdfast audit tail          what was asked, answered, decided
  .venv/bin/holdfast drift check digits  newest answers against the reference""",
        highlight=False,
        soft_wrap=True,
    )


if __name__ == "__main__":
    sys.exit(main())
