"""How the control service's replies become what the screens show. Pure.

Knows: both shapes. Rules: 0 on the wire is None here; text that came from outside holds no control
characters, so that it cannot drive a terminal. Leaves to others: fetching (`tui.gateway`).
"""

from collections.abc import Iterable

from appliance.commands import printable
from runtime.protocol import control_pb2 as wire
from tui.snapshot import Box, ModelLine, Threshold, Traffic, VersionLine


def box_from_wire(status: wire.StatusReply) -> Box:
    """The box that `status` describes."""
    return Box(
        release=status.release,
        address=status.address,
        metrics_address=status.metrics_address,
        taken_wall_ns=status.wall_ns,
        started_wall_ns=status.started_wall_ns,
        draining=status.draining,
        audit_records=status.audit_records,
        audit_queue=status.audit_queue,
        audit_failure=status.audit_failure,
    )


def model_from_wire(model: wire.Model, traffic: Traffic | None = None) -> ModelLine:
    """The model that `model` describes, with `traffic` when it is known."""
    lines = sorted((version_from_wire(item) for item in model.versions), key=lambda v: -v.number)
    return ModelLine(
        name=model.name,
        active=model.active or None,
        previous=model.previous or None,
        versions=tuple(lines),
        traffic=traffic or Traffic(),
    )


def version_from_wire(version: wire.Version) -> VersionLine:
    """The version that `version` describes."""
    return VersionLine(
        number=version.number,
        role=version.role,
        loaded=version.loaded,
        engine=version.engine,
        bundle_sha256=version.bundle_sha256,
        built=version.built,
        release_notes=printable(version.release_notes),
        thresholds=_thresholds(version.thresholds),
        damage=printable(version.damage),
    )


def _thresholds(thresholds: Iterable[wire.Threshold]) -> tuple[Threshold, ...]:
    return tuple(
        Threshold(
            metric=item.metric, output=item.output, minimum=item.minimum, reached=item.reached
        )
        for item in thresholds
    )
