"""`holdfast tune`: what is refused, shown and decided. Only one test measures, and it judges no figure."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import numpy as np
import pytest
import tritonclient.grpc as triton
from msgspec.structs import replace
from typer.testing import CliRunner, Result

from appliance.audit.kinds import AnyRecord, Decision, Outcome
from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.clock import SystemClock
from appliance.config import StateConfig
from appliance.deployment import Deployment, Tuning
from appliance.exits import GOAL_MISSED, OK, USAGE
from appliance.signing import SigningKey
from runtime.client import ControlClient, InferenceClient
from runtime.tuning import Arrivals, Measured, Order
from runtime.tuning.messages import Ready
from tests.tui.conftest import ControlServer
from tui import livetune
from tui.cli import app

CONFIG, UNKNOWN, UNREACHABLE, AUDIT = 10, 18, 23, 24
PRESENT = Tuning(rows_max=32, delay_us_max=0, lanes=1, threads=0)
Run = Callable[..., Result]


class FakeMeasuring:
    """Two lanes cost half, every request of one row is in time; keeps what it was asked."""

    late = 0
    asked: list[tuple[Tuning, Arrivals]]

    def __init__(self, order: Order) -> None:
        self.ready = Ready(batch_max=32, present=order.tuning or PRESENT)
        type(self).asked = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def measure(
        self, tuning: Tuning, arrivals: Arrivals, late_max: int, reached: Callable[[int], None]
    ) -> Measured:
        self.asked.append((tuning, arrivals))
        count = len(arrivals.at_ns)
        late = min(self.late * count, late_max + 1)
        return Measured(
            requests=count,
            late=late,
            abandoned=late > late_max,
            throughput=400.0,
            p50_ms=1.0,
            p99_ms=4.0,
            batch_rows=1.5,
            cpu_us_row=300.0 / tuning.lanes,
            trouble="no memory" if tuning.threads else "",
        )


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeMeasuring]:
    monkeypatch.setattr(livetune, "Measuring", FakeMeasuring)
    monkeypatch.setattr(FakeMeasuring, "late", 0)
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0, 1})
    return FakeMeasuring


@pytest.fixture
def run(state: Path) -> Run:
    """run("digits") is `holdfast tune digits --state <the test's box>`."""

    def command(*arguments: str) -> Result:
        return CliRunner().invoke(app, ["tune", *arguments, "--state", str(state)])

    return command


@pytest.fixture
def log(state: Path) -> Callable[..., None]:
    """log(records...) makes the box's log."""

    def make(*records: AnyRecord) -> None:
        paths = StateConfig(directory=str(state))
        key = SigningKey.load_or_generate(paths.box_key)
        with AuditLog.open(paths.audit_log, key=key, clock=SystemClock()) as log:
            log.append(records)

    return make


def active(tuning: Tuning | None = None) -> Outcome:
    standing = Deployment(model="digits", active=1, tuning=tuning)
    return Outcome(decision_id="d", model="digits", result="done", message="", deployment=standing)


def told(result: Result) -> Any:
    assert result.exit_code == OK, result.stderr
    return json.loads(result.stdout)


def test_what_decides_is_on_a_terminal_of_80_cells_too(
    fake: type[FakeMeasuring],
    run: Run,
    log: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tui.printing.PIPED_CELLS", 80)
    log(active())
    lines = run("digits", "--p99-ms", "10", "--rate", "400", "--number", "1000").stdout.splitlines()
    head = next(place for place, line in enumerate(lines) if "CPU a row" in line)
    assert lines[head].split() == [
        "Lanes",
        "Threads",
        "Rows",
        "Delay",
        "p50",
        "p99",
        *["CPU", "a", "row", "Meets"],
    ]
    assert lines[head + 1].startswith("now")
    assert "1.0 ms  4.0 ms" in lines[head + 1]
    assert lines[head + 1].split()[-1] == "yes"


def test_a_table_a_plot_and_the_best_but_no_decision_without_a_reason(
    fake: type[FakeMeasuring], run: Run, log: Callable[..., None]
) -> None:
    log(active())
    result = run("digits", "--p99-ms", "10", "--rate", "400", "--number", "1000")
    assert result.exit_code == OK, result.stderr
    head = next(line for line in result.stdout.splitlines() if "Throughput" in line)
    for column in ("Lanes", "Rows", "Delay", "p50", "p99", "Batch", "CPU a row", "Meets"):
        assert column in head
    assert "now" in result.stdout
    assert "the line is the goal, 10 ms" in result.stdout
    assert "no memory" in result.stdout
    assert "Best: 2 lanes on all cores" in result.stdout
    assert "Nothing was decided" in result.stdout
    assert "\x1b[" not in result.stdout


def test_as_json_every_setting_that_was_tried(
    fake: type[FakeMeasuring], run: Run, log: Callable[..., None]
) -> None:
    tuning = replace(PRESENT, lanes=2, delay_us_max=5)
    log(active(tuning))
    found = told(run("digits", "--p99-ms", "10", "--rate", "400", "--rows", "3", "--json"))
    assert (found["model"], found["version"], found["source"]) == ("digits", 1, "poisson")
    assert found["present"]["lanes"] == 2
    assert found["decision_id"] is None
    tried = found["tried"][0]
    assert (tried["meets"], tried["requests"], tried["setting"]["delay_us_max"]) == ("yes", 2000, 5)
    assert {rows for _, arrivals in fake.asked for rows in arrivals.rows} == {3}


def test_a_goal_that_nothing_meets_has_its_own_exit_code_and_changes_nothing(
    fake: type[FakeMeasuring],
    run: Run,
    log: Callable[..., None],
    state: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log(active())
    server = ControlServer(state / "control.sock")
    server.start()
    monkeypatch.setattr(fake, "late", 1)
    settings = ("--p99-ms", "10", "--rate", "400", "--reason", "faster", "--yes")
    result = run("digits", *settings)
    assert result.exit_code == GOAL_MISSED
    assert "No setting keeps p99 at 10 ms" in result.stdout
    assert run("digits", *settings, "--json").exit_code == GOAL_MISSED
    server.stop()
    assert server.control.orders == []
    with AuditReader(state / "audit" / "log.db") as reader:
        assert reader.size() == 1


def test_what_may_meet_it_is_said_to_want_more_requests(
    fake: type[FakeMeasuring], run: Run, log: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    log(active())
    monkeypatch.setattr(fake, "late", 0.01)
    result = run("digits", "--p99-ms", "10", "--rate", "400", "--number", "1000")
    assert result.exit_code == GOAL_MISSED
    assert "measure longer with --number" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (("letters", "--p99-ms", "10"), UNKNOWN, "unknown model"),
        (("digits", "--p99-ms", "10"), AUDIT, "no requests of 'digits'"),
        (("digits",), USAGE, "--p99-ms"),
        (("digits", "--p99-ms", "10", "--rows", "3"), USAGE, "--rows"),
        (("digits", "--end"), CONFIG, "needs a reason"),
        (("digits", "--p99-ms", "10", "--reason", "r"), CONFIG, "nobody is at a terminal"),
        (("digits", "--p99-ms", "10", "--reason", "r", "--yes"), UNREACHABLE, "no runtime"),
    ],
)
def test_refusals_before_anything_is_measured(
    run: Run, log: Callable[..., None], arguments: tuple[str, ...], code: int, why: str
) -> None:
    log(active())
    result = run(*arguments)
    assert result.exit_code == code
    assert why in result.stderr
    assert result.stdout == ""


def test_a_model_without_an_active_version_is_refused(run: Run, log: Callable[..., None]) -> None:
    log(replace(active(), deployment=Deployment(model="digits")))
    result = run("digits", "--p99-ms", "10", "--rate", "5")
    assert result.exit_code == UNKNOWN
    assert "no version of 'digits' is active" in result.stderr


def test_ctrl_c_ends_it_quietly(
    run: Run, log: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    log(active())
    monkeypatch.setattr(livetune.Measuring, "measure", interrupt)
    result = run("digits", "--p99-ms", "10", "--rate", "400")
    assert result.exit_code == 130
    assert "interrupted" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_real_thing_measures_and_tells(runtime: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against a goal that any machine meets; what is best is not asked."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0})
    arguments = ["digits", "--p99-ms", "4000", "--rate", "5000", "-n", "1000", "--json"]
    found = told(CliRunner().invoke(app, ["tune", *arguments, "--state", str(runtime.state)]))
    assert found["chosen"] is not None
    assert all(tried["trouble"] == "" for tried in found["tried"])
    assert found["tried"][0]["requests"] == 1000


def test_a_recorded_load_becomes_a_decision_that_outlives_the_runtime(
    fake: type[FakeMeasuring],
    run: Run,
    state: Path,
    start_runtime: Callable[..., Any],
    held_out: dict[str, np.ndarray],
) -> None:
    first = start_runtime(state)
    image = {"image": held_out["image"][:2]}
    with ControlClient(first.socket) as control, InferenceClient(first.address) as client:
        control.decide("digits", "activate", 1, actor="test", reason="first")
        for _ in range(3):
            client.infer("digits", image)
    result = run("digits", "--p99-ms", "10", "--reason", "August", "--actor", "op", "--yes")
    assert result.exit_code == OK, result.stderr
    assert "as recorded from" in result.stdout
    assert "Tune digits: done" in result.stdout
    assert {rows for _, arrivals in fake.asked for rows in arrivals.rows} == {2}
    check_tuned(first, image)
    assert first.stop() == 0

    second = start_runtime(state)
    check_tuned(second, image)
    with AuditReader(state / "audit" / "log.db") as reader:
        records = [entry.record for entry in reader.records(category="decision")]
    decision = records[-1]
    assert isinstance(decision, Decision)
    assert (decision.act, decision.version, decision.claimed) == ("tune", 1, "op")
    assert decision.reason.startswith("August (measured at ")
    assert decision.reason.endswith("p99 4.0 ms, at most 10 ms wanted)")

    again = run("digits", "--p99-ms", "10", "--reason", "again", "--yes")
    assert "there is nothing to change" in again.stdout
    ended = run("digits", "--end", "--reason", "enough", "--yes", "--json")
    assert told(ended)["before"]["tuning"]["lanes"] == 2
    assert told(ended)["after"]["tuning"] is None


def check_tuned(runtime: Any, image: dict[str, np.ndarray]) -> None:
    """The runtime says that the tuning holds, and answers."""
    with ControlClient(runtime.socket) as control, InferenceClient(runtime.address) as client:
        (model,) = control.list("digits")
        assert model.tuning.lanes == 2
        assert client.infer("digits", image).version == "1"
    with triton.InferenceServerClient(runtime.address) as stock:
        assert stock.get_model_config("digits").config.instance_group[0].count == 2
