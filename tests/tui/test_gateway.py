"""The room that talks, against a control service on a Unix socket."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.deployment import Act, Activate, RollBack, StartCanary
from appliance.errors import DecisionError, UnknownModel, Unreachable
from runtime.client import ControlClient
from tests.tui.conftest import ControlServer, FakeControl
from tui.gateway import LIST_SECONDS, RuntimeGateway
from tui.preview import Order
from tui.snapshot import Link


@dataclass(slots=True)
class HandClock:
    """Stands still until it is told to go on."""

    monotonic: int = 0

    def wall_ns(self) -> int:
        return 0

    def monotonic_ns(self) -> int:
        return self.monotonic


def order(act: Act) -> Order:
    return Order(model="digits", act=act, actor="alice", reason="because")


def test_a_look_has_box_models_and_rates(control: FakeControl, box_state: Path) -> None:
    with RuntimeGateway(box_state / "control.sock") as gateway:
        first, second = gateway.look(), gateway.look()
    assert first.link is Link.SERVING
    assert first.models[0].traffic.requests_per_second is None
    assert second.models[0].traffic.requests_per_second == 100.0
    assert second.models[0].versions[0].release_notes == "notes of 3"
    assert second.box is not None
    assert second.box.audit_records == 1200


def test_the_store_is_listed_only_now_and_then(control: FakeControl, box_state: Path) -> None:
    clock = HandClock()
    with RuntimeGateway(box_state / "control.sock", clock) as gateway:
        gateway.look()
        gateway.look()
        assert control.listings == 1
        clock.monotonic = int(LIST_SECONDS * 1e9)
        gateway.look()
        assert control.listings == 2


def test_a_decision_of_someone_else_is_seen_at_the_next_look(
    control: FakeControl, box_state: Path
) -> None:
    with RuntimeGateway(box_state / "control.sock", HandClock()) as gateway:
        gateway.look()
        control.models[0].active = 3
        assert gateway.look().models[0].active == 3
        control.models[0].canary, control.models[0].canary_per_mille = 2, 50
        assert gateway.look().models[0].canary == 2
        control.models[0].canary_per_mille = 100
        assert gateway.look().models[0].canary_per_mille == 100
        control.models[0].shadow = 1
        assert gateway.look().models[0].shadow == 1


def test_a_draining_runtime_is_shown_as_such(control: FakeControl, box_state: Path) -> None:
    control.draining = True
    with RuntimeGateway(box_state / "control.sock") as gateway:
        assert gateway.look().link is Link.DRAINING


def test_an_unreachable_runtime_is_a_state_and_comes_back(control_server: ControlServer) -> None:
    with RuntimeGateway(control_server.socket) as gateway:
        away = gateway.look()
        assert away.link is Link.UNREACHABLE
        assert away.trouble is not None
        assert away.trouble.code == "server.unreachable"
        assert "holdfast-runtime" in away.trouble.remedy
        control_server.start()
        assert gateway.look().link is Link.SERVING
        control_server.stop()
        assert gateway.look().link is Link.UNREACHABLE
        control_server.start()
        assert gateway.look().link is Link.SERVING


def test_a_client_made_anew_does_not_share_the_old_ones_failed_attempt(
    control_server: ControlServer,
) -> None:
    with ControlClient(control_server.socket) as backing_off:
        with pytest.raises(Unreachable):
            backing_off.status()
        control_server.start()
        with ControlClient(control_server.socket) as anew:
            assert anew.status().models[0].name == "digits"


def test_another_error_of_the_runtime_is_shown_too(control: FakeControl, box_state: Path) -> None:
    control.listing_error = UnknownModel("the store is gone", remedy="mount it")
    with RuntimeGateway(box_state / "control.sock") as gateway:
        snapshot = gateway.look()
    assert snapshot.trouble is not None
    assert (snapshot.trouble.code, snapshot.trouble.remedy) == ("model.unknown", "mount it")


def test_a_decision_carries_actor_and_reason(control: FakeControl, box_state: Path) -> None:
    with RuntimeGateway(box_state / "control.sock", HandClock()) as gateway:
        gateway.look()
        decision_id, model = gateway.decide(order(Activate(version=3)))
        assert gateway.look().models[0].version(3) == model.version(3)
    sent = control.orders[0]
    assert (sent.model, sent.act, sent.version) == ("digits", "activate", 3)
    assert (sent.actor, sent.reason) == ("alice", "because")
    assert decision_id == "d-0007"
    assert (model.active, model.previous) == (3, 2)


def test_a_canary_carries_its_share(control: FakeControl, box_state: Path) -> None:
    with RuntimeGateway(box_state / "control.sock") as gateway:
        _, model = gateway.decide(order(StartCanary(version=3, per_mille=25)))
    sent = control.orders[0]
    assert (sent.act, sent.version, sent.per_mille) == ("start_canary", 3, 25)
    assert (model.canary, model.canary_per_mille) == (3, 25)


def test_a_refusal_comes_back_as_it_was_raised(control: FakeControl, box_state: Path) -> None:
    control.refusal = DecisionError("no previous version", remedy="activate one by number")
    with RuntimeGateway(box_state / "control.sock") as gateway:
        with pytest.raises(DecisionError) as caught:
            gateway.decide(order(RollBack()))
    assert caught.value.remedy == "activate one by number"


def test_commands_raise_what_the_screen_shows(box_state: Path) -> None:
    with RuntimeGateway(box_state / "control.sock") as gateway:
        with pytest.raises(Unreachable):
            gateway.observe()
        with pytest.raises(Unreachable):
            gateway.models()
