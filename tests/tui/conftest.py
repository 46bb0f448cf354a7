"""Hand-made snapshots, a gateway that replays them, and a tiny control server on a Unix socket."""

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import msgspec
import pytest
from pytest_textual_snapshot import SVGImageExtension

from appliance.deployment import Act, Deployment, apply
from appliance.errors import ApplianceError, UnknownModel
from runtime.client import CODE_KEY, REMEDY_KEY
from runtime.protocol import control_pb2 as wire
from runtime.protocol import control_pb2_grpc as stubs
from tests.tui.settling import make_pilots_patient
from tui.preview import Order
from tui.snapshot import (
    Box,
    Link,
    ModelLine,
    Moment,
    Snapshot,
    Threshold,
    Traffic,
    Trial,
    VersionLine,
)

# The plugin names its pictures .raw under the current syrupy; a browser wants .svg.
SVGImageExtension.file_extension = "svg"
make_pilots_patient()

NOW_NS = 1_790_000_000_000_000_000
HOUR_NS = 3_600_000_000_000


def version_line(number: int, role: str = "", **changes: Any) -> VersionLine:
    """A version as the build files it."""
    line = VersionLine(
        number=number,
        role=role,
        loaded=role in ("active", "canary", "shadow", "previous"),
        engine="openvino" if number % 2 else "onnxruntime",
        bundle_sha256=f"{number:x}4f6c1e09ab37d25" * 4,
        built=f"2026-09-{19 + number % 3:02d}T1{number}:20:00Z",
        release_notes=f"Version {number}: trained again with the images of August; "
        "fewer sevens are read as ones.",
        thresholds=(
            Threshold(
                metric="accuracy", output="logits", minimum=0.95, reached=0.96 + number / 250
            ),
        ),
        damage="",
        precision="int8" if number % 2 else "fp32",
        error_max=0.021,
        trials=(
            Trial(engine="openvino", precision="int8", median_ms=0.11, verdict="kept"),
            Trial(engine="onnxruntime", precision="fp32", median_ms=0.19, verdict="passed, slower"),
        ),
    )
    return replace(line, **changes)


def course(height: float) -> tuple[Moment, ...]:
    """Four minutes of gently waving traffic, one moment a second."""
    return tuple(
        Moment(
            seconds=float(second),
            requests_per_second=height * (1 + 0.4 * math.sin(second / 17)),
            p50_ms=0.9 + 0.1 * math.sin(second / 9),
            p99_ms=3.2 + 1.4 * math.sin(second / 23) ** 2,
        )
        for second in range(-238, 1)
    )


def digits() -> ModelLine:
    """A busy model with four versions."""
    return ModelLine(
        name="digits",
        active=3,
        previous=2,
        versions=(
            version_line(4),
            version_line(3, "active"),
            version_line(2, "previous"),
            version_line(1, "retired"),
        ),
        traffic=Traffic(
            answered=4_812_345,
            failed=17,
            rows=9_624_690,
            batches=601_543,
            queued=3,
            p50_ms=0.91,
            p99_ms=3.42,
            requests_per_second=1234.0,
            course=course(1200.0),
        ),
    )


def accompanied() -> ModelLine:
    """`digits` with a canary and a shadow beside the active version."""
    versions = (
        version_line(5, "shadow"),
        version_line(4, "canary"),
        *digits().versions[1:],
    )
    return replace(digits(), canary=4, canary_per_mille=50, shadow=5, versions=versions)


def wine() -> ModelLine:
    """A model of which nothing is active yet."""
    return ModelLine(name="wine", active=None, previous=None, versions=(version_line(1),))


def box(**changes: Any) -> Box:
    """A box that has been up for two hours and five minutes."""
    return replace(
        Box(
            release="0.1.0",
            address="127.0.0.1:8001",
            metrics_address="127.0.0.1:9464",
            taken_wall_ns=NOW_NS,
            started_wall_ns=NOW_NS - 2 * HOUR_NS - HOUR_NS // 12,
            draining=False,
            audit_records=4_812_400,
            audit_queue=2,
            audit_failure="",
        ),
        **changes,
    )


def snapshot(**changes: Any) -> Snapshot:
    """The box serving `digits` and `wine`."""
    return replace(Snapshot(link=Link.SERVING, box=box(), models=(digits(), wine())), **changes)


class FakeGateway:
    """Replays one snapshot at a time and notes the orders it was given."""

    def __init__(self, now: Snapshot) -> None:
        self.now = now
        self.orders: list[Order] = []
        self.refusal: ApplianceError | None = None
        self.closed = False

    def look(self) -> Snapshot:
        return self.now

    def decide(self, order: Order) -> tuple[str, ModelLine]:
        self.orders.append(order)
        if self.refusal:
            raise self.refusal
        model = self.now.model(order.model)
        assert model is not None
        return "d-0001", model

    def close(self) -> None:
        self.closed = True


class FakeControl(stubs.ControlServicer):
    """Answers as a runtime does, from plain state."""

    def __init__(self) -> None:
        self.models = [wire_model("digits", active=2, previous=1, numbers=(1, 2, 3))]
        self.orders: list[wire.DecideRequest] = []
        self.refusal: ApplianceError | None = None
        self.listing_error: ApplianceError | None = None
        self.draining = self.hide = False
        self.audit_failure, self.metrics_address = "", "127.0.0.1:9464"
        self.answered, self.listings, self.wall_ns = 0, 0, NOW_NS

    def List(self, request: wire.ListRequest, context: grpc.ServicerContext) -> wire.ListReply:
        self.listings += 1
        if self.listing_error:
            refuse(context, self.listing_error)
        found = [model for model in self.models if request.model in ("", model.name)]
        if self.hide:
            return wire.ListReply()
        if request.model and not found:
            refuse(context, UnknownModel(f"unknown model '{request.model}'", remedy="use digits"))
        return wire.ListReply(models=found)

    def Status(
        self, request: wire.StatusRequest, context: grpc.ServicerContext
    ) -> wire.StatusReply:
        self.answered += 100
        self.wall_ns += 1_000_000_000
        return wire_status(self)

    def Decide(
        self, request: wire.DecideRequest, context: grpc.ServicerContext
    ) -> wire.DecideReply:
        self.orders.append(request)
        if self.refusal:
            refuse(context, self.refusal)
        model = self.models[0]
        after = apply(wire_deployment(model), wire_act(request))
        model.active, model.previous = after.active or 0, after.previous or 0
        model.canary, model.canary_per_mille = after.canary or 0, after.canary_per_mille
        model.shadow = after.shadow or 0
        for version in model.versions:
            version.role = after.role(version.number)
        return wire.DecideReply(decision_id="d-0007", model=model)


def wire_act(request: wire.DecideRequest) -> Act:
    """The act that a request names, by its recorded form."""
    fields = {"version": request.version, "per_mille": request.per_mille}
    given = {name: value for name, value in fields.items() if value}
    return msgspec.convert({"type": request.act, **given}, Act)


def wire_deployment(model: wire.Model) -> Deployment:
    """The roles of a listed model."""
    return Deployment(
        model=model.name,
        active=model.active or None,
        previous=model.previous or None,
        retired=tuple(line.number for line in model.versions if line.role == "retired"),
        canary=model.canary or None,
        canary_per_mille=model.canary_per_mille,
        shadow=model.shadow or None,
    )


def wire_model(name: str, *, active: int, previous: int, numbers: tuple[int, ...]) -> wire.Model:
    """A model as the control service lists it."""
    roles = {active: "active", previous: "previous"}
    versions = [
        wire.Version(
            number=number,
            role=roles.get(number, ""),
            loaded=number in roles,
            engine="openvino",
            bundle_sha256="ab" * 32,
            built="2026-09-20T10:00:00Z",
            release_notes=f"notes of {number}",
            thresholds=[
                wire.Threshold(
                    metric="accuracy", output="logits", minimum=0.95, reached=0.97, rows=400
                )
            ],
            precision="int8",
            error_max=0.02,
            warnings=["the sample is old"],
            trials=[wire.Trial(engine="openvino", precision="int8", median_ms=0.2, verdict="kept")],
        )
        for number in numbers
    ]
    return wire.Model(name=name, active=active, previous=previous, versions=versions)


def wire_status(control: FakeControl) -> wire.StatusReply:
    """A status as the control service sends it."""
    lines = [
        wire.ModelStatus(
            name=model.name,
            active=model.active,
            previous=model.previous,
            canary=model.canary,
            canary_per_mille=model.canary_per_mille,
            shadow=model.shadow,
            answered=control.answered,
            failed=1,
            rows=control.answered * 2,
            batches=control.answered // 10,
            queued=4,
            p50_ms=0.8,
            p99_ms=2.5,
        )
        for model in control.models
    ]
    return wire.StatusReply(
        release="0.1.0",
        address="127.0.0.1:8001",
        metrics_address=control.metrics_address,
        wall_ns=control.wall_ns,
        started_wall_ns=NOW_NS - HOUR_NS,
        audit_records=1000 + control.answered,
        audit_queue=1,
        audit_failure=control.audit_failure,
        draining=control.draining,
        models=lines,
    )


def refuse(context: grpc.ServicerContext, error: ApplianceError) -> None:
    """Answer with `error` as the runtime's interceptor does."""
    context.set_trailing_metadata(((CODE_KEY, error.code), (REMEDY_KEY, error.remedy.encode())))
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(error))


class ControlServer:
    """Serves a FakeControl on a Unix socket, as often as it is started."""

    def __init__(self, socket: Path) -> None:
        self.socket = socket
        self.control = FakeControl()
        self._server: grpc.Server | None = None

    def start(self) -> None:
        self._server = grpc.server(ThreadPoolExecutor(2))
        stubs.add_ControlServicer_to_server(self.control, self._server)
        self._server.add_insecure_port(f"unix:{self.socket}")
        self._server.start()

    def stop(self) -> None:
        if self._server:
            self._server.stop(grace=None).wait()
            self._server = None


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures and tables are the same whatever terminal the tests are run from."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES", "TEXTUAL_THEME"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def box_state(tmp_path: Path) -> Path:
    """An empty state directory; a Unix socket's path has 107 bytes at most, so it is not deep."""
    return tmp_path


@pytest.fixture
def control(box_state: Path) -> Iterator[FakeControl]:
    """A running control service in `box_state`."""
    server = ControlServer(box_state / "control.sock")
    server.start()
    yield server.control
    server.stop()


@pytest.fixture
def control_server(box_state: Path) -> Iterator[ControlServer]:
    """A control service in `box_state` that the test starts and stops."""
    server = ControlServer(box_state / "control.sock")
    yield server
    server.stop()
