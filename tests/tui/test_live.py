"""Commands and console against a real runtime in a process of its own."""

import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from appliance.exits import OK
from runtime.client import InferenceClient
from tests.conftest import Runtime
from tui.app import ConsoleApp
from tui.cli import app
from tui.gateway import RuntimeGateway
from tui.snapshot import Link

ROOT = Path(__file__).parents[2]


@pytest.fixture
def state(runtime: Runtime) -> Path:
    return runtime.state


def holdfast(state: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, [*arguments, "--state", str(state)])
    assert result.exit_code == OK, result.stderr
    return result.stdout


def test_the_commands_carry_decisions_out_and_the_log_tells_of_them(state: Path) -> None:
    decided = json.loads(
        holdfast(state, "activate", "digits", "2", "--reason", "fewer errors", "--yes", "--json")
    )
    roles = {role: decided["after"][role] for role in ("active", "previous", "retired")}
    assert roles == {"active": 2, "previous": 1, "retired": []}
    assert [item["role"] for item in decided["versions"]] == ["active", "previous"]

    holdfast(state, "rollback", "digits", "--reason", "to show the way back", "--yes")
    status = json.loads(holdfast(state, "status", "--json"))
    assert (status["models"][0]["active"], status["models"][0]["previous"]) == (1, 2)

    told = json.loads(holdfast(state, "audit", "show", decided["decision_id"], "--json"))
    assert [entry["record"]["category"] for entry in told] == ["decision", "outcome"]
    assert told[0]["record"]["reason"] == "fewer errors"
    assert json.loads(holdfast(state, "audit", "verify", "--json"))["records"] >= 7


def test_a_canary_and_a_shadow_are_compared_by_what_the_log_says(
    runtime: Runtime, state: Path
) -> None:
    reasons = ("--reason", "to see", "--yes")
    with np.load(ROOT / "examples" / "digits" / "traffic.npz") as archive:
        images = archive["image"][:100]
    holdfast(state, "shadow", "digits", "2", *reasons)
    with InferenceClient(runtime.address) as client:
        for number, image in enumerate(images):
            client.infer("digits", {"image": image[None]}, request_id=f"beside-{number}")
    told = json.loads(holdfast(state, "compare", "digits", "--json"))
    active, shadow = told["versions"]
    assert (told["requests"], active["answered"]) == (100, 100)
    assert shadow["role"] == "shadow"
    agreement = told["agreement"]
    assert agreement["paired"] == shadow["answered"] <= 100
    for output in agreement["outputs"]:
        assert output["rows"] == agreement["paired"]
        assert output["reshaped"] == 0
    holdfast(state, "shadow", "digits", "--end", *reasons)

    holdfast(state, "canary", "digits", "2", "--share", "50%", *reasons)
    with InferenceClient(runtime.address) as client:
        for number, image in enumerate(images):
            client.infer("digits", {"image": image[None]}, request_id=f"share-{number}")
    active, canary = json.loads(holdfast(state, "compare", "digits", "--json"))["versions"]
    assert active["answered"] + canary["answered"] == 100
    assert min(active["answered"], canary["answered"]) > 20
    shown = holdfast(state, "compare", "digits")
    assert "canary 50%" in shown
    holdfast(state, "canary", "digits", "--end", *reasons)


async def test_the_console_shows_it_and_decides(runtime: Runtime) -> None:
    console = ConsoleApp(RuntimeGateway(runtime.socket), actor="alice", tick_seconds=0.1)
    async with console.run_test(size=(120, 40)) as pilot:
        while console.snapshot.link is not Link.SERVING:
            await pilot.pause(0.01)
        await pilot.press("a", *"swap", "enter")
        while console.snapshot.models[0].active != 2:
            await pilot.pause(0.01)
        await pilot.press("q")
    assert console.return_code == OK


def test_the_console_opens_on_a_terminal_and_q_leaves_it(tmp_path: Path) -> None:
    """The real command on a real terminal, with no runtime: it says so, and goes when told."""
    person, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", 24, 80, 0, 0))
    command = [sys.executable, "-c", "from tui.cli import main; main()", "--state", str(tmp_path)]
    environment = {**os.environ, "TERM": "xterm-256color"}
    with subprocess.Popen(
        command, stdin=terminal, stdout=terminal, stderr=terminal, env=environment
    ) as child:
        os.close(terminal)
        shown = b""
        while b"unreachable" not in shown:
            shown += os.read(person, 65_536)
        os.write(person, b"q")
        drain(person)
        assert child.wait() == OK
    os.close(person)


def drain(terminal: int) -> None:
    """Read what the console still writes, so that it never waits for a reader, until it is gone."""
    try:
        while os.read(terminal, 65_536):
            pass
    except OSError:
        return  # Linux answers EIO once the other side is closed
