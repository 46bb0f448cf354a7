"""ServerMetadata, ModelMetadata, ModelConfig."""

import pytest

from appliance.config import ModelBatching, QueueConfig
from appliance.deployment import Activate
from appliance.version import release


async def test_the_server_says_its_name_and_what_it_serves(serve):
    metadata = await (await serve(inferring=("classification",))).get_server_metadata()
    assert (metadata.name, metadata.version) == ("holdfast", release())
    assert {"holdfast", "statistics", "model_repository", "classification"} <= set(
        metadata.extensions
    )
    assert not {"trace", "logging", "system_shared_memory", "cuda_shared_memory"} & set(
        metadata.extensions
    )


async def test_a_stock_script_finds_the_name_it_checks_and_what_is_granted(serve):
    client = await serve(
        server={"name": "triton", "settings_control": True, "repository_control": True},
        shared={"allowed": True},
    )
    metadata = await client.get_server_metadata()
    assert metadata.name == "triton"
    assert {
        "trace",
        "logging",
        "system_shared_memory",
        "model_repository(unload_dependents)",
    } <= set(metadata.extensions)


async def test_metadata_and_config_agree_on_the_interface(serve, world):
    await world.decide(Activate(version=1))
    client = await serve()
    metadata = await client.get_model_metadata("digits")
    config = (await client.get_model_config("digits", "active")).config
    assert metadata.platform == config.platform
    assert [(item.name, list(item.shape)) for item in metadata.inputs] == [
        (item.name, [-1, *item.dims]) for item in config.input
    ]
    assert [item.name for item in metadata.outputs] == [item.name for item in config.output]
    assert config.max_batch_size == 32
    assert list(config.version_policy.specific.versions) == [1]
    assert config.dynamic_batching.default_queue_policy.max_queue_size == 512


async def test_the_config_tells_lanes_and_queues_of_this_very_model(serve, world):
    await world.decide(Activate(version=1))
    delayed = QueueConfig(requests_max=5, timeout_us_default=9, timeout_action="delay")
    own = ModelBatching(
        preferred_rows=(4, 8), delay_us_max=70, lanes=3, queues=(QueueConfig(), delayed)
    )
    client = await serve(batching={"models": {"digits": own}})
    config = (await client.get_model_config("digits")).config
    assert config.instance_group[0].count == 3
    dynamic = config.dynamic_batching
    assert list(dynamic.preferred_batch_size) == [4, 8]
    assert dynamic.max_queue_delay_microseconds == 70
    assert (dynamic.priority_levels, dynamic.default_priority_level) == (2, 2)
    second = dynamic.priority_queue_policy[2]
    assert (second.max_queue_size, second.default_timeout_microseconds) == (5, 9)
    assert second.timeout_action == second.DELAY


@pytest.mark.parametrize("call", ["get_model_metadata", "get_model_config"])
async def test_what_is_not_there_is_named(serve, world, refused, call):
    client = await serve()
    told = await refused(getattr(client, call)("nothing"))
    assert told.status == "StatusCode.NOT_FOUND"
    assert told.text == "Request for unknown model: 'nothing' is not found"
    told = await refused(getattr(client, call)("digits"))
    assert told.status == "StatusCode.NOT_FOUND"
    assert "has no available versions" in told.text
    await world.decide(Activate(version=1))
    told = await refused(getattr(client, call)("digits", "9"))
    assert told.status == "StatusCode.NOT_FOUND"
    told = await refused(getattr(client, call)("digits", "2"))
    assert told.status == "StatusCode.UNAVAILABLE"
    told = await refused(getattr(client, call)("digits", "x"))
    assert told.status == "StatusCode.INVALID_ARGUMENT"
