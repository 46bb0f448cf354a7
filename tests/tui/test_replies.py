"""Replies of the control service become what the screens show."""

from appliance.deployment import Deployment
from runtime.protocol import control_pb2 as wire
from tests.tui.conftest import FakeControl, wire_model, wire_status
from tui.replies import box_from_wire, model_from_wire, version_from_wire


def test_versions_come_newest_first_and_no_version_is_none() -> None:
    model = model_from_wire(wire_model("digits", active=2, previous=0, numbers=(1, 2, 10)))
    assert [line.number for line in model.versions] == [10, 2, 1]
    assert (model.active, model.previous) == (2, None)


def test_the_deployment_is_what_the_rules_take() -> None:
    listed = wire_model("digits", active=3, previous=2, numbers=(1, 2, 3))
    listed.versions[0].role = "retired"
    assert model_from_wire(listed).deployment == Deployment(
        model="digits", active=3, previous=2, retired=(1,)
    )


def test_a_version_keeps_its_thresholds() -> None:
    line = version_from_wire(
        wire.Version(
            number=1, thresholds=[wire.Threshold(metric="accuracy", minimum=0.9, reached=0.95)]
        )
    )
    assert (line.thresholds[0].minimum, line.thresholds[0].reached) == (0.9, 0.95)


def test_release_notes_cannot_drive_the_terminal() -> None:
    line = version_from_wire(wire.Version(number=1, release_notes="red \x1b[31m", damage="\x07"))
    assert "\x1b" not in line.release_notes
    assert "\x07" not in line.damage


def test_the_box_knows_how_long_it_has_been_up() -> None:
    box = box_from_wire(wire_status(FakeControl()))
    assert box.uptime_seconds == 3600
    assert box.address == "127.0.0.1:8001"
