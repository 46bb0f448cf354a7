"""Which settings hold for one version. Pure.

Knows: the order in which they are asked: a recorded tuning, the model's own, the box's; and what is otherwise on a
GPU: its lanes have a number of their own, since copies of one run beside the computing of another; a batch is padded
to doubling sizes, since each size is a program that the GPU keeps; and no thread that brings requests runs one, since
it would wait for the GPU, and for seconds when that is lost. Rules: who says a number gets it. Leaves to others:
acting on them.
"""

import msgspec

from appliance.config import BatchingConfig, Config, EngineConfig
from appliance.deployment import Tuning, tuned
from appliance.store import StoredVersion
from runtime.servable import ON_GPU


def is_on_gpu(stored: StoredVersion) -> bool:
    """Whether the version's engine runs on a GPU."""
    return stored.record.engine.kind == ON_GPU


def batching_of(
    batching: BatchingConfig, stored: StoredVersion, tuning: Tuning | None
) -> BatchingConfig:
    """How the version's requests form batches."""
    model = stored.record.model
    holding = tuned(batching.of(model), tuning)
    if not is_on_gpu(stored):
        return holding
    own = batching.models.get(model)
    if own is None or own.inline_us_max is None:
        holding = msgspec.structs.replace(holding, inline_us_max=0)
    if tuning or holding.bucket_rows:
        return holding
    return msgspec.structs.replace(holding, bucket_rows=doubling(stored, holding.rows_max))


def engine_of(config: Config, stored: StoredVersion, tuning: Tuning | None) -> EngineConfig:
    """How many lanes run the version, and on how many threads each."""
    model = stored.record.model
    holding = config.engine_of(model)
    own = config.batching.models.get(model)
    if is_on_gpu(stored) and (own is None or own.lanes is None):
        holding = msgspec.structs.replace(holding, lanes=config.gpu.lanes * len(config.gpu.devices))
    return tuned(holding, tuning)


def present(config: Config, stored: StoredVersion, tuning: Tuning | None) -> Tuning:
    """What the version runs with, as a tuning would say it."""
    batching = batching_of(config.batching, stored, tuning)
    engine = engine_of(config, stored, tuning)
    return Tuning(
        rows_max=min(batching.rows_max, max(stored.manifest.served.batch_max, 1)),
        delay_us_max=batching.delay_us_max,
        lanes=engine.lanes,
        threads=engine.threads,
        bucket_rows=batching.bucket_rows,
    )


def doubling(stored: StoredVersion, rows_max: int) -> tuple[int, ...]:
    """1, 2, 4 and so on up to the largest batch, which is the last; none without a batch axis."""
    most = min(rows_max, stored.manifest.served.batch_max)
    sizes = [1 << power for power in range(most.bit_length()) if 1 << power < most]
    return (*sizes, most) if most > 1 else ()
