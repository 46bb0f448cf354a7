"""Settings of how models are run and built: batching, engines, builds.

Leaves to others: acting on them (`runtime`, `compiler`).
"""

from typing import Annotated, Any, Literal

import msgspec

from appliance.config.section import Natural, Positive, Seconds, Section
from appliance.version import ModelName


class QueueConfig(Section, frozen=True, kw_only=True):
    """One priority's queue of a model; 0 means no bound and no timeout of its own.

    A request whose time is over is rejected, or waits behind all that are in time ("delay"). With
    `timeout_override` a request may shorten the timeout for itself.
    """

    requests_max: Natural = 0
    timeout_us_default: Natural = 0
    timeout_override: bool = True
    timeout_action: Literal["reject", "delay"] = "reject"


class ModelBatching(Section, frozen=True, kw_only=True):
    """What one model has otherwise than `BatchingConfig` and `EngineConfig` say; None means as there."""

    rows_max: Positive | None = None
    bucket_rows: tuple[Positive, ...] | None = None
    preferred_rows: tuple[Positive, ...] | None = None
    delay_us_max: Natural | None = None
    queue_requests_max: Positive | None = None
    inline_us_max: Natural | None = None
    engine_seconds_max: Seconds | None = None
    priority_default: Natural | None = None
    queues: tuple[QueueConfig, ...] | None = None
    lanes: Positive | None = None
    threads: Natural | None = None


class BatchingConfig(Section, frozen=True, kw_only=True):
    """Dynamic batching of each model. A delay of 0 batches only what queued while the engine ran.

    `queues` are those of priority 1, the highest, 2 and so on; without any there is one.
    """

    rows_max: Positive = 32
    bucket_rows: tuple[Positive, ...] = ()
    preferred_rows: tuple[Positive, ...] = ()
    delay_us_max: Natural = 0
    queue_requests_max: Positive = 512
    inline_us_max: Natural = 500
    engine_seconds_max: Seconds = 60.0
    priority_default: Natural = 0
    queues: tuple[QueueConfig, ...] = ()
    models: dict[ModelName, ModelBatching] = msgspec.field(default_factory=dict)

    def of(self, model: str) -> "BatchingConfig":
        """The settings of one model: its own where it has them."""
        return msgspec.structs.replace(
            self, models={}, **own_settings(self, self.models.get(model))
        )


class EngineConfig(Section, frozen=True, kw_only=True):
    """CPU engines. 0 threads means one a core; each of `lanes` runs batches of one model side by side."""

    threads: Natural = 0
    lanes: Positive = 1


class GpuBuildConfig(Section, frozen=True, kw_only=True):
    """How engines for a GPU are built, where the box has one that TensorRT can use.

    A workspace of 0 bytes means all memory of the GPU that is free. `tf32` lets fp32 be rounded to 10 bits in products.
    A plan for "same_capability" or "ampere_plus" also runs on other such GPUs, a `version_compatible` one with
    later TensorRT of the same major version and its lean runtime; both are slower. With `refit` a bundle of the
    same graph with other weights gets an earlier plan with new weights instead of a build.
    """

    enabled: bool = True
    workspace_bytes_max: Annotated[int, msgspec.Meta(ge=0, le=1 << 50)] = 0
    optimisation_level: Annotated[int, msgspec.Meta(ge=0, le=5)] = 3
    tf32: bool = False
    compatibility: Literal["none", "same_capability", "ampere_plus"] = "none"
    version_compatible: bool = False
    refit: bool = False
    timings_bytes_max: Annotated[int, msgspec.Meta(ge=0, le=1 << 40)] = 256 << 20


class BuildConfig(Section, frozen=True, kw_only=True):
    """What a pack or build may use of this machine; one build runs at a time and others wait."""

    memory_bytes_max: Annotated[int, msgspec.Meta(ge=1 << 30, le=1 << 50)] = 16 << 30
    seconds_max: Seconds = 3600.0
    wait_seconds_max: Seconds = 3600.0
    gpu: GpuBuildConfig = GpuBuildConfig()


def own_settings(section: Section, own: ModelBatching | None) -> dict[str, Any]:
    """Those of a model's own settings that `section` has."""
    told = msgspec.structs.asdict(own) if own else {}
    return {name: told[name] for name in section.__struct_fields__ if told.get(name) is not None}
