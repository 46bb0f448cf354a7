"""How the console, `holdfast status` and `doctor` tell of checkpoints that did not leave the box."""

from appliance.config import Config, StateConfig
from runtime.protocol import control_pb2 as wire
from tests.tui.conftest import ControlServer, box, snapshot
from tests.tui.test_expiry import status_line
from tui.commands.serving import _box_lines, _status_json
from tui.doctor.box import _runtime
from tui.doctor.finding import Verdict
from tui.replies import box_from_wire
from tui.snapshot import BlockedWay

AWAY = BlockedWay(way="/mnt/stick", trouble="there is no directory", code="state.unusable")
REFUSED = BlockedWay(
    way="witness.plant.example:8001",
    trouble="the witness has seen 9 records of this log, which now has 4",
    code="witness.refused",
)


def test_the_top_line_tells_where_no_checkpoint_gets_to():
    shown = status_line(snapshot(box=box(checkpoints_blocked=(AWAY,))))
    assert "no checkpoint to /mnt/stick: there is no directory" in shown


def test_a_witness_that_refuses_is_an_alarm_that_comes_before_what_is_only_away():
    now = box(checkpoints_blocked=(AWAY, REFUSED), certificates_failure="it does not fit")
    shown = status_line(snapshot(box=now))
    assert "ALARM: the witness has seen 9 records of this log, which now has 4" in shown


def test_status_tells_every_way():
    now = snapshot(box=box(checkpoints_blocked=(AWAY, REFUSED)))
    told = [text for name, text in _box_lines("serving", now.box) if name == "Checkpoint"]
    assert told == [
        "not to /mnt/stick: there is no directory",
        f"ALARM, not to {REFUSED.way}: {REFUSED.trouble}",
    ]
    assert _status_json(now)["checkpoints_blocked"] == (AWAY, REFUSED)


def test_what_the_runtime_sends_is_what_is_shown():
    sent = wire.BlockedWay(way=AWAY.way, trouble=AWAY.trouble + "\x1b[31m", code=AWAY.code)
    (shown,) = box_from_wire(wire.StatusReply(checkpoints_blocked=[sent])).checkpoints_blocked
    assert (shown.way, shown.code) == (AWAY.way, AWAY.code)
    assert "\x1b" not in shown.trouble


def test_doctor_tells_why_and_how_bad_it_is(tmp_path):
    config = Config(state=StateConfig(directory=str(tmp_path)))
    server = ControlServer(config.state.control_socket)
    ways = [
        wire.BlockedWay(way=at.way, trouble=at.trouble, code=at.code, remedy=f"see to {at.way}")
        for at in (AWAY, REFUSED)
    ]
    server.control.Status = lambda *_: wire.StatusReply(checkpoints_blocked=ways)
    server.start()
    try:
        found = [item for item in _runtime(config) if item.subject == "checkpoints"]
    finally:
        server.stop()
    assert [item.verdict for item in found] == [Verdict.WARNING, Verdict.TROUBLE]
    assert AWAY.trouble in found[0].told
    assert REFUSED.way in found[1].told
    assert [item.remedy for item in found] == [f"see to {at.way}" for at in (AWAY, REFUSED)]
