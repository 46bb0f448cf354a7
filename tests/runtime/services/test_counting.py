"""ModelStatistics."""

from threading import Thread

import pytest

from appliance.deployment import Activate
from runtime.metrics import Metrics


def count(version, **changed):
    figures = {
        "rows": 1,
        "batch_rows": 1,
        "queue_ns": 5,
        "compute_ns": 100,
        "input_ns": 20,
        "output_ns": 10,
        "took_ns": 1000,
        "wall_ns": 1_700_000_000_123_456_789,
    }
    version.answered(**{**figures, **changed})


async def test_every_field_is_filled(serve, world):
    await world.decide(Activate(version=1))
    version = world.metrics.model("digits").version(1)
    count(version, rows=1, batch_rows=4)
    count(version, rows=3, batch_rows=4)
    count(version, rows=2, batch_rows=2, compute_ns=60, wall_ns=1_600_000_000_000_000_000)
    version.failed(77)
    (stats,) = (await (await serve()).get_inference_statistics("digits")).model_stats
    assert (stats.name, stats.version) == ("digits", "1")
    assert stats.last_inference == 1_700_000_000_123
    assert (stats.inference_count, stats.execution_count) == (6, 2)
    times = {
        name: (getattr(stats.inference_stats, name).count, getattr(stats.inference_stats, name).ns)
        for name in ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
    }
    assert times == {
        "success": (3, 3000),
        "fail": (1, 77),
        "queue": (3, 15),
        "compute_input": (3, 60),
        "compute_infer": (3, 70 + 70 + 30),
        "compute_output": (3, 30),
    }
    assert [
        (
            batch.batch_size,
            batch.compute_infer.count,
            batch.compute_infer.ns,
            batch.compute_input.ns,
        )
        for batch in stats.batch_stats
    ] == [(2, 1, 30, 20), (4, 1, 70, 20)]
    (memory,) = stats.memory_usage
    assert memory.type == "CPU"
    assert memory.byte_size == world.store.describe("digits", 1).record.proof.memory_bytes
    assert not stats.response_stats


async def test_all_models_one_model_one_version_one_role(serve, world):
    client = await serve()
    assert not (await client.get_inference_statistics()).model_stats
    await world.decide(Activate(version=1))
    await world.decide(Activate(version=2))

    async def versions(*asked):
        return [
            item.version for item in (await client.get_inference_statistics(*asked)).model_stats
        ]

    assert await versions() == ["1", "2"]
    assert await versions("digits") == ["1", "2"]
    assert await versions("digits", "2") == ["2"]
    assert await versions("digits", "previous") == ["1"]
    assert await versions("", "2") == ["2"]


async def test_requests_advance_the_queue_count_that_load_tools_watch(serve, world):
    await world.decide(Activate(version=1))
    client = await serve()

    async def queued():
        (stats,) = (await client.get_inference_statistics("digits")).model_stats
        return stats.inference_stats.queue.count

    before = await queued()
    count(world.metrics.model("digits").version(1))
    assert await queued() == before + 1


async def test_what_is_not_there_is_an_error_as_in_triton(serve, world, refused):
    client = await serve()
    for asked in (("nothing",), ("digits",)):
        told = await refused(client.get_inference_statistics(*asked))
        assert told.status == "StatusCode.INVALID_ARGUMENT"
        assert told.text == f"requested model '{asked[0]}' is not available"
    await world.decide(Activate(version=1))
    told = await refused(client.get_inference_statistics("digits", "2"))
    assert told.text == "requested model 'digits', version 2 is not available"
    told = await refused(client.get_inference_statistics("digits", "x"))
    assert "specified version string 'x'" in told.text


@pytest.mark.parametrize("size", [1, 3, 7, 32])
def test_shares_of_a_batch_add_up_to_whole_executions(size):
    version = Metrics().model("m").version(1)
    for _ in range(1000):
        for _ in range(size):
            count(version, batch_rows=size)
    assert version.by_batch[size].executions(size) == 1000
    assert version.by_batch[size].infer_row_ns // size == 70 * 1000
    assert round(version.batches) == 1000


def test_counting_from_many_threads_loses_nothing():
    metrics = Metrics()

    def work():
        for _ in range(2000):
            count(metrics.model("m").version(1))
            metrics.model("m").version(2).failed(1)
            metrics.model("").refused_one()
            metrics.model("m").latency_ms(0.5)

    threads = [Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    model = metrics.model("m")
    assert model.version(1).success.count == model.version(1).rows == 8000
    assert sum(model.version(1).took.counts) == 8000
    assert model.version(2).fail.count == 8000
    assert metrics.model("").refused == 8000
