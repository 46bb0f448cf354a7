"""RepositoryIndex, RepositoryModelLoad, RepositoryModelUnload."""

import json

import pytest

from appliance.audit.kinds import Decision
from appliance.audit.reader import AuditReader
from appliance.deployment import Activate, Retire, RollBack
from appliance.errors import DecisionError

GRANTED = {"repository_control": True}


async def states(client):
    index = (await client.get_model_repository_index()).models
    return {item.version: (item.state, item.reason) for item in index if item.name == "digits"}


@pytest.fixture
def decisions(world, tmp_path):
    """The decisions in the log so far, oldest first: (act, version, actor, reason)."""

    def read():
        with AuditReader(tmp_path / "log.db") as reader:
            records = [entry.record for entry in reader.tail(100)]
        return [
            (record.act, record.version, record.actor.split(":")[0], record.reason)
            for record in records
            if isinstance(record, Decision)
        ]

    return read


async def test_the_index_tells_loaded_from_unloaded_and_why(serve, world):
    client = await serve()
    assert await states(client) == {
        "1": ("UNAVAILABLE", "not activated"),
        "2": ("UNAVAILABLE", "not activated"),
    }
    await world.decide(Activate(version=2))
    await world.decide(Retire(version=1))
    assert await states(client) == {"1": ("UNAVAILABLE", "retired"), "2": ("READY", "")}


async def test_the_index_of_ready_models_only_and_of_one_repository(serve, world):
    from tritonclient.grpc import service_pb2 as oip

    await world.decide(Activate(version=1))
    client = await serve()
    reply = await client._client_stub.RepositoryIndex(oip.RepositoryIndexRequest(ready=True))
    assert [(item.name, item.version, item.state) for item in reply.models] == [
        ("digits", "1", "READY")
    ]
    with pytest.raises(Exception, match="'repository_name' specification is not supported"):
        await client._client_stub.RepositoryIndex(oip.RepositoryIndexRequest(repository_name="r"))


@pytest.mark.parametrize("call", ["load_model", "unload_model"])
async def test_without_a_grant_both_are_refused_as_by_a_polling_triton(
    serve, world, refused, decisions, call
):
    await world.decide(Activate(version=1))
    told = await refused(getattr(await serve(), call)("digits"))
    assert told.status == "StatusCode.UNAVAILABLE"
    assert told.text == "explicit model load / unload is not allowed if polling is enabled"
    assert len(decisions()) == 1


async def test_a_first_load_activates_the_newest_version(serve, decisions):
    client = await serve(server=GRANTED)
    await client.load_model("digits")
    assert await client.is_model_ready("digits", "2")
    assert decisions() == [("activate", 2, "client ipv4", "RepositoryModelLoad")]


async def test_a_load_never_moves_a_model_that_answers(serve, world, decisions):
    await world.decide(Activate(version=1))
    client = await serve(server=GRANTED)
    await client.load_model("digits")
    assert not await client.is_model_ready("digits", "2")
    assert len(decisions()) == 1


async def test_a_load_may_name_its_version(serve, world, decisions):
    await world.decide(Activate(version=1))
    client = await serve(server=GRANTED)
    named = json.dumps({"version_policy": {"specific": {"versions": ["2"]}}})
    await client.load_model("digits", config=named)
    assert await client.is_model_ready("digits", "active")
    assert decisions()[1:] == [("activate", 2, "client ipv4", "RepositoryModelLoad")]
    await client.load_model("digits", config=named)
    assert len(decisions()) == 2


async def test_unloading_frees_all_and_loading_brings_the_same_version_back(
    serve, world, decisions
):
    await world.decide(Activate(version=2))
    await world.decide(Activate(version=1))
    client = await serve(server=GRANTED)
    await client.unload_model("digits", unload_dependents=True)
    assert not await client.is_model_ready("digits")
    assert not world.table.loaded("digits")
    assert (await states(client))["1"] == ("UNAVAILABLE", "unloaded")
    assert await client.is_server_ready()
    await client.unload_model("digits")
    await client.load_model("digits")
    assert await client.is_model_ready("digits", "1")
    assert [act for act, *_ in decisions()] == ["activate", "activate", "withdraw", "roll_back"]


async def test_unloading_what_is_not_loaded_or_unknown_is_no_error(serve, decisions):
    client = await serve(server=GRANTED)
    await client.unload_model("digits")
    await client.unload_model("nothing")
    assert not decisions()


async def test_a_first_load_passes_over_what_may_not_be_activated(serve, world):
    await world.decide(Retire(version=2))
    await (await serve(server=GRANTED)).load_model("digits")
    assert world.table.deployment("digits").active == 1


async def test_nothing_that_may_be_activated_is_an_error(serve, world, refused):
    await world.decide(Retire(version=1))
    await world.decide(Retire(version=2))
    told = await refused((await serve(server=GRANTED)).load_model("digits"))
    assert told.status == "StatusCode.INTERNAL"
    assert told.text.startswith("failed to load 'digits'")


async def test_a_version_that_fails_to_load_changes_nothing(serve, world, refused):
    world.broken.add(2)
    told = await refused((await serve(server=GRANTED)).load_model("digits"))
    assert told.status == "StatusCode.INTERNAL"
    assert told.text == "failed to load 'digits', it does not load"
    assert world.table.deployment("digits").active is None


async def test_an_active_version_that_did_not_load_is_named(serve, world, refused):
    await world.decide(Activate(version=1))
    client = await serve(server=GRANTED)
    deployment = world.table.deployment("digits")
    world.table.switch(type(deployment)(model="digits"), {})
    world.table.assume(deployment)
    told = await refused(client.load_model("digits"))
    assert "version 1 is active and did not load" in told.text
    assert "failed to load" in (await states(client))["1"][1]


@pytest.mark.parametrize(
    ("name", "status", "text"),
    [
        ("nothing", "INTERNAL", "failed to load 'nothing', failed to poll from model repository"),
        ("a b", "INTERNAL", "failed to load 'a b', failed to poll from model repository"),
        ("", "INVALID_ARGUMENT", "Model name cannot be empty"),
        ("../x", "INVALID_ARGUMENT", "model name must not contain path traversal characters"),
        ("a/b", "INVALID_ARGUMENT", "model name must not contain path traversal characters"),
    ],
)
async def test_names_that_cannot_be_loaded(serve, refused, name, status, text):
    told = await refused((await serve(server=GRANTED)).load_model(name))
    assert (told.status, told.text) == (f"StatusCode.{status}", text)


@pytest.mark.parametrize(
    "config",
    [
        {"max_batch_size": "32"},
        {"maxBatchSize": 32},
        {"name": "digits", "input": "same"},
        {"dynamic_batching": {"default_queue_policy": {"allow_timeout_override": True}}},
        {"version_policy": {"latest": {"num_versions": 1}}},
        {},
    ],
)
async def test_a_config_that_says_what_holds_is_taken(serve, world, config):
    await world.decide(Activate(version=1))
    client = await serve(server=GRANTED)
    if "input" in config:
        whole = (await client.get_model_config("digits", as_json=True))["config"]
        config = {"name": "digits", "input": whole["input"], "output": whole["output"]}
    await client.load_model("digits", config=json.dumps(config))


async def test_a_models_own_config_is_taken_whole(serve, world):
    await world.decide(Activate(version=1))
    client = await serve(server=GRANTED)
    whole = (await client.get_model_config("digits", as_json=True))["config"]
    await client.load_model("digits", config=json.dumps(whole))


@pytest.mark.parametrize(
    ("config", "why"),
    [
        ('{"max_batch_size":"16"}', "max_batch_size is not what"),
        ('{"max_batch_size":0}', "max_batch_size is not what"),
        ('{"backend":"python"}', "backend is not what"),
        ('{"instance_group":[{"count":4}]}', "instance_group is not what"),
        (
            '{"dynamic_batching":{"default_queue_policy":{"max_queue_size":7}}}',
            "dynamic_batching.default_queue_policy.max_queue_size is not what",
        ),
        ('{"version_policy":{"specific":{"versions":[1,2]}}}', "must name one version"),
        ('{"version_policy":{"all":{}}}', "only one version of a model answers"),
        ('{"no_such":1}', "no field named"),
        ("[]", "it is no JSON object"),
        ('{"max_batch_size":32,"max_batch_size":32}', "duplicate key"),
        ("{", "invalid config override"),
        ("[" * 100_000, "invalid config override"),
        (" " * ((1 << 20) + 1), "more than 1048576 characters"),
    ],
)
async def test_a_config_that_would_change_something_is_refused(serve, world, refused, config, why):
    await world.decide(Activate(version=1))
    told = await refused((await serve(server=GRANTED)).load_model("digits", config=config))
    assert told.status == "StatusCode.INVALID_ARGUMENT"
    assert "failed to load 'digits'" in told.text
    assert why in told.text
    assert world.table.deployment("digits").active == 1


async def test_a_models_own_config_is_taken_whole_also_after_a_swap(serve, world, decisions):
    await world.decide(Activate(version=1))
    await world.decide(Activate(version=2))
    client = await serve(server=GRANTED)
    own = (await client.get_model_config("digits", as_json=True))["config"]
    assert own["version_policy"] == {"specific": {"versions": ["1", "2"]}}
    await client.load_model("digits", config=json.dumps(own))
    assert len(decisions()) == 2


async def test_a_version_that_is_not_there_cannot_be_named(serve, refused):
    named = json.dumps({"version_policy": {"specific": {"versions": ["9"]}}})
    told = await refused((await serve(server=GRANTED)).load_model("digits", config=named))
    assert told.status == "StatusCode.INTERNAL"
    assert "version 9 is not in the repository" in told.text


async def test_files_are_refused_and_so_is_what_is_no_parameter(serve, refused, decisions):
    from tritonclient.grpc import service_pb2 as oip

    client = await serve(server=GRANTED)
    told = await refused(client.load_model("digits", config="{}", files={"file:1/model.py": b"x"}))
    assert told.status == "StatusCode.UNIMPLEMENTED"
    assert "override files are not taken" in told.text
    told = await refused(client.load_model("digits", files={"other": b"x"}))
    assert told.text == "unrecognized load parameter 'other'."
    request = oip.RepositoryModelLoadRequest(model_name="digits")
    request.parameters["config"].bool_param = True
    with pytest.raises(Exception, match="expected string_param"):
        await client._client_stub.RepositoryModelLoad(request)
    request = oip.RepositoryModelUnloadRequest(model_name="digits")
    request.parameters["unload_dependents"].string_param = "yes"
    with pytest.raises(Exception, match="expected bool_param"):
        await client._client_stub.RepositoryModelUnload(request)
    assert not decisions()


async def test_a_withdrawn_model_can_be_rolled_back_by_the_operator_too(serve, world):
    await world.decide(Activate(version=1))
    await (await serve(server=GRANTED)).unload_model("digits")
    await world.decide(RollBack())
    assert world.table.loaded("digits") == [1]
    with pytest.raises(DecisionError):
        await world.decide(Activate(version=1))
