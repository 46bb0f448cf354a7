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

import pytest
from typer.testing import CliRunner

from appliance.exits import OK
from tests.conftest import Runtime
from tui.app import ConsoleApp
from tui.cli import app
from tui.gateway import RuntimeGateway
from tui.snapshot import Link


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
    assert decided["after"] == {"active": 2, "previous": 1, "retired": []}
    assert [item["role"] for item in decided["versions"]] == ["active", "previous"]

    holdfast(state, "rollback", "digits", "--reason", "to show the way back", "--yes")
    status = json.loads(holdfast(state, "status", "--json"))
    assert (status["models"][0]["active"], status["models"][0]["previous"]) == (1, 2)

    told = json.loads(holdfast(state, "audit", "show", decided["decision_id"], "--json"))
    assert [entry["record"]["category"] for entry in told] == ["decision", "outcome"]
    assert told[0]["record"]["reason"] == "fewer errors"
    assert json.loads(holdfast(state, "audit", "verify", "--json"))["records"] >= 7


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
