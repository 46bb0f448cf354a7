"""Replies of the control service become what the screens show."""

import msgspec

from appliance.deployment import Deployment
from runtime.protocol import control_pb2 as wire
from tests.tui.conftest import FakeControl, wire_model, wire_status
from tui.replies import box_from_wire, model_from_wire, version_from_wire
from tui.snapshot import acceptance


def test_versions_come_newest_first_and_no_version_is_none() -> None:
    model = model_from_wire(wire_model("digits", active=2, previous=0, numbers=(1, 2, 10)))
    assert [line.number for line in model.versions] == [10, 2, 1]
    assert (model.active, model.previous) == (2, None)


def test_the_deployment_is_what_the_rules_take() -> None:
    listed = wire_model("digits", active=3, previous=2, numbers=(1, 2, 3))
    listed.versions[0].role = "retired"
    plain = Deployment(model="digits", active=3, previous=2, retired=(1,))
    assert model_from_wire(listed).deployment == plain
    assert not model_from_wire(listed).accompanied
    listed.canary, listed.canary_per_mille, listed.shadow = 4, 50, 5
    assert model_from_wire(listed).deployment == msgspec.structs.replace(
        plain, canary=4, canary_per_mille=50, shadow=5
    )
    assert model_from_wire(listed).accompanied


def test_a_version_keeps_its_thresholds() -> None:
    line = version_from_wire(
        wire.Version(
            number=1, thresholds=[wire.Threshold(metric="accuracy", minimum=0.9, reached=0.95)]
        )
    )
    assert (line.thresholds[0].minimum, line.thresholds[0].reached) == (0.9, 0.95)
    assert line.thresholds[0].maximum is None


def test_of_a_segment_the_value_nearest_to_missing_is_told() -> None:
    common = {"metric": "accuracy", "output": "y", "minimum": 0.9, "segment": "site"}
    error = {"metric": "mean_absolute_error", "output": "y", "maximum": 2.0}
    line = version_from_wire(
        wire.Version(
            thresholds=[
                wire.Threshold(**common, segment_value="north", reached=0.99, rows=9),
                wire.Threshold(**common, segment_value="\x1bsouth", reached=0.91, rows=8),
                wire.Threshold(**error, reached=0.5),
            ]
        )
    )
    assert acceptance(line.thresholds) == (
        "accuracy 0.910 >= 0.900 (site = \\x1bsouth), mean_absolute_error 0.500 <= 2.000"
    )


def test_what_was_tried_is_kept() -> None:
    model = wire_model("digits", active=1, previous=0, numbers=(1,))
    line = version_from_wire(model.versions[0])
    assert line.engine_text == "openvino int8"
    assert line.warnings == ("the sample is old",)
    assert [(item.engine, item.verdict) for item in line.trials] == [("openvino", "kept")]


def test_release_notes_cannot_drive_the_terminal() -> None:
    line = version_from_wire(wire.Version(number=1, release_notes="red \x1b[31m", damage="\x07"))
    assert "\x1b" not in line.release_notes
    assert "\x07" not in line.damage


def test_the_box_knows_how_long_it_has_been_up() -> None:
    box = box_from_wire(wire_status(FakeControl()))
    assert box.uptime_seconds == 3600
    assert box.address == "127.0.0.1:8001"
