"""How the control service's replies become what the screens show. Pure.

Knows: both shapes. Rules: 0 on the wire is None here; text that came from outside holds no control
characters, so that it cannot drive a terminal. Leaves to others: fetching (`tui.gateway`).
"""

from collections.abc import Iterable

from appliance.commands import printable
from appliance.deployment import Tuning
from runtime.protocol import control_pb2 as wire
from tui.snapshot import (
    BlockedWay,
    Box,
    CertificateLine,
    GpuLine,
    ModelLine,
    Threshold,
    Traffic,
    Trial,
    VersionLine,
)


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
        certificates=tuple(
            CertificateLine(
                what=item.what,
                name=printable(item.name),
                not_after_ns=item.not_after_ns,
                state=item.state,
            )
            for item in status.certificates
        ),
        certificates_failure=printable(status.certificates_failure),
        gpus=tuple(map(_gpu_from_wire, status.gpus)),
        checkpoints_blocked=tuple(map(blocked_from_wire, status.checkpoints_blocked)),
    )


def blocked_from_wire(way: wire.BlockedWay) -> BlockedWay:
    """Where a checkpoint did not get to, as `way` tells."""
    return BlockedWay(
        way=printable(way.way),
        trouble=printable(way.trouble),
        code=way.code,
        remedy=printable(way.remedy),
    )


def _gpu_from_wire(gpu: wire.Gpu) -> GpuLine:
    return GpuLine(
        device=gpu.device,
        name=printable(gpu.name),
        state=gpu.state,
        trouble=printable(gpu.trouble),
        restarts=gpu.restarts,
        engines=gpu.engines,
        memory_free_bytes=gpu.memory_free_bytes,
        memory_bytes=gpu.memory_bytes,
        busy=gpu.busy if gpu.HasField("busy") else None,
        celsius=gpu.celsius if gpu.HasField("celsius") else None,
        watts=gpu.watts if gpu.HasField("watts") else None,
        throttled=tuple(gpu.throttled),
        ecc_uncorrected=gpu.ecc_uncorrected if gpu.HasField("ecc_uncorrected") else None,
    )


def model_from_wire(model: wire.Model, traffic: Traffic | None = None) -> ModelLine:
    """The model that `model` describes, with `traffic` when it is known."""
    lines = sorted((version_from_wire(item) for item in model.versions), key=lambda v: -v.number)
    return ModelLine(
        name=model.name,
        active=model.active or None,
        previous=model.previous or None,
        canary=model.canary or None,
        canary_per_mille=model.canary_per_mille,
        shadow=model.shadow or None,
        tuning=_tuning(model.tuning) if model.HasField("tuning") else None,
        versions=tuple(lines),
        traffic=traffic or Traffic(),
    )


def _tuning(setting: wire.Tuning) -> Tuning:
    return Tuning(
        rows_max=setting.rows_max,
        delay_us_max=setting.delay_us_max,
        lanes=setting.lanes,
        threads=setting.threads,
        bucket_rows=tuple(setting.bucket_rows),
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
        precision=version.precision,
        error_max=version.error_max,
        warnings=tuple(printable(warning) for warning in version.warnings),
        trials=_trials(version.trials),
        edition=version.edition or None,
    )


def _thresholds(thresholds: Iterable[wire.Threshold]) -> tuple[Threshold, ...]:
    return tuple(
        Threshold(
            metric=item.metric,
            output=printable(item.output),
            minimum=item.minimum if item.HasField("minimum") else None,
            maximum=item.maximum if item.HasField("maximum") else None,
            reached=item.reached,
            segment=printable(item.segment),
            segment_value=printable(item.segment_value),
            rows=item.rows,
        )
        for item in thresholds
    )


def _trials(trials: Iterable[wire.Trial]) -> tuple[Trial, ...]:
    return tuple(
        Trial(
            engine=item.engine,
            precision=item.precision,
            median_ms=item.median_ms,
            verdict=printable(item.verdict),
        )
        for item in trials
    )
