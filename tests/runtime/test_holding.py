"""Which settings hold for a version, on a GPU and off it."""

from types import SimpleNamespace

import pytest

from appliance.config import BatchingConfig, Config, EngineConfig, GpuConfig, ModelBatching
from appliance.deployment import Tuning
from runtime.holding import batching_of, doubling, engine_of, is_on_gpu, present

TUNING = Tuning(rows_max=4, delay_us_max=0, lanes=3, threads=2)


def version(kind="tensorrt", batch_max=32):
    record = SimpleNamespace(model="m", engine=SimpleNamespace(kind=kind))
    manifest = SimpleNamespace(served=SimpleNamespace(batch_max=batch_max))
    return SimpleNamespace(record=record, manifest=manifest)


def config(own=None, **gpu):
    models = {} if own is None else {"m": ModelBatching(**own)}
    return Config(
        batching=BatchingConfig(models=models),
        engine=EngineConfig(lanes=5),
        gpu=GpuConfig(**gpu),
    )


def test_off_the_gpu_nothing_is_otherwise():
    stored, settings = version("openvino"), config()
    assert not is_on_gpu(stored)
    assert batching_of(settings.batching, stored, None) == settings.batching.of("m")
    assert engine_of(settings, stored, None) == settings.engine
    assert engine_of(settings, stored, TUNING).lanes == 3


def test_lanes_on_a_gpu_are_its_own_for_each_device_unless_the_model_says():
    stored = version()
    assert engine_of(config(), stored, None).lanes == 2
    assert engine_of(config(devices=("0", "1"), lanes=3), stored, None).lanes == 6
    assert engine_of(config({"lanes": 1}), stored, None).lanes == 1
    assert engine_of(config({"threads": 1}), stored, None).lanes == 2
    assert engine_of(config(), stored, TUNING).lanes == 3


def test_batches_on_a_gpu_are_padded_to_doubling_sizes_unless_somebody_says():
    stored = version()
    assert batching_of(config().batching, stored, None).bucket_rows == (1, 2, 4, 8, 16, 32)
    own = config({"bucket_rows": (5,)})
    assert batching_of(own.batching, stored, None).bucket_rows == (5,)
    assert batching_of(config().batching, stored, TUNING).bucket_rows == ()


def test_no_thread_that_brings_requests_waits_for_a_gpu_unless_the_model_says():
    stored = version()
    assert batching_of(config().batching, stored, None).inline_us_max == 0
    assert batching_of(config().batching, stored, TUNING).inline_us_max == 0
    assert batching_of(config({"rows_max": 9}).batching, stored, None).inline_us_max == 0
    assert batching_of(config({"inline_us_max": 7}).batching, stored, None).inline_us_max == 7


@pytest.mark.parametrize(
    ("rows_max", "batch_max", "sizes"),
    [(32, 0, ()), (32, 1, ()), (32, 6, (1, 2, 4, 6)), (3, 8, (1, 2, 3)), (8, 8, (1, 2, 4, 8))],
)
def test_sizes_double_up_to_the_largest_batch(rows_max, batch_max, sizes):
    assert doubling(version(batch_max=batch_max), rows_max) == sizes


def test_what_runs_now_is_told_as_a_tuning_and_is_the_same_again_under_it():
    for stored in (version(), version("openvino"), version(batch_max=0)):
        now = present(config(), stored, None)
        assert now.rows_max <= max(stored.manifest.served.batch_max, 1)
        assert now.lanes == (2 if is_on_gpu(stored) else 5)
        assert now.bucket_rows == (doubling(stored, 32) if is_on_gpu(stored) else ())
        assert present(config(), stored, now) == now
