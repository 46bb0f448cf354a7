"""Sequences from a real server process, asked by the stock client as Triton's examples do."""

import queue
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.grpc.aio as triton_aio
from tritonclient.utils import InferenceServerException

from appliance.audit.kinds import Inference
from appliance.audit.reader import AuditReader
from appliance.errors import DecisionError, RequestError
from runtime.client import AsyncInferenceClient, InferenceClient, Sequenced
from tests.runtime.sequences.accumulator import activate, value_of

MODEL = "simple_sequence"
VALUES = [11, 7, 5, 3, 2, 0, 1]


@pytest.fixture
def client(sequenced):
    with triton.InferenceServerClient(sequenced.address) as client:
        yield client


@pytest.fixture
def moving(start_runtime, sequence_state, tmp_path):
    """A runtime of the test's own, with version 1 active."""
    state = Path(shutil.copytree(sequence_state, tmp_path / "state"))
    running = start_runtime(state)
    activate(running.socket, 1)
    return running


def numbers(result) -> tuple[int, int]:
    """OUTPUT and SUM of a reply."""
    return int(result.as_numpy("OUTPUT")[0, 0]), int(result.as_numpy("SUM")[0, 0])


def ask(client, value, sequence=0, **flags) -> tuple[int, int]:
    return numbers(client.infer(MODEL, [value_of(value)], sequence_id=sequence, **flags))


def streamed(address, requests, **options) -> list[tuple[str, object]]:
    """Id and reply, or error, of all `requests`, (sequence, value, start, end), sent over one stream."""
    told: queue.SimpleQueue = queue.SimpleQueue()
    with triton.InferenceServerClient(address) as client:
        client.start_stream(callback=lambda result, error: told.put((result, error)))
        for number, (sequence, value, start, end) in enumerate(requests):
            client.async_stream_infer(
                MODEL,
                [value_of(value)],
                request_id=f"{sequence}_{number}",
                sequence_id=sequence,
                sequence_start=start,
                sequence_end=end,
                **options,
            )
        client.stop_stream()
    return [told.get_nowait() for _ in requests]


def test_what_clients_ask_first(client):
    assert {"sequence", "sequence(string_id)"} <= set(client.get_server_metadata().extensions)
    metadata = client.get_model_metadata(MODEL)
    assert [tensor.name for tensor in metadata.inputs] == ["INPUT"]
    assert [tensor.name for tensor in metadata.outputs] == ["OUTPUT", "SUM"]
    config = client.get_model_config(MODEL).config
    assert config.HasField("model_transaction_policy")
    assert not config.model_transaction_policy.decoupled
    assert config.WhichOneof("scheduling_choice") == "sequence_batching"
    batching = config.sequence_batching
    assert batching.max_sequence_idle_microseconds == 60_000_000
    assert batching.oldest.max_candidate_sequences == 1024
    states = [(state.input_name, state.output_name, list(state.dims)) for state in batching.state]
    assert states == [("TOTAL", "TOTAL_NEXT", [1]), ("SEEN", "SEEN_NEXT", [1])]
    assert batching.state[0].initial_state[0].zero_data


def test_sync_as_in_simple_grpc_sequence_sync_infer_client(client):
    for sequence, sign in ((1001, 1), ("string-id", -1)):
        assert ask(client, 0, sequence, sequence_start=True) == (1, 0)
        total = 0
        for number, value in enumerate(VALUES, 1):
            total += sign * value
            end = number == len(VALUES)
            assert ask(client, sign * value, sequence, sequence_end=end) == (sign * value, total)


def test_stream_as_in_simple_grpc_sequence_stream_infer_client(sequenced):
    requests = [
        (sequence, sign * value, number == 0, number == len(VALUES))
        for number, value in enumerate([0, *VALUES])
        for sequence, sign in ((2001, 1), (2002, -1), ("2001", 2))
    ]
    told = streamed(sequenced.address, requests, enable_empty_final_response=True)
    sums = {2001: 0, 2002: 0, "2001": 0}
    for number, ((sequence, value, start, _), (result, error)) in enumerate(
        zip(requests, told, strict=True)
    ):
        sums[sequence] += value
        assert error is None
        response = result.get_response()
        assert response.id == f"{sequence}_{number}"
        # A model that is not decoupled answers once: that reply is the last, and no empty one follows.
        assert response.parameters["triton_final_response"].bool_param
        assert numbers(result) == (value + start, sums[sequence])


async def test_aio(sequenced):
    async with triton_aio.InferenceServerClient(sequenced.address) as client:

        async def requests():
            for number, value in enumerate(VALUES):
                yield {
                    "model_name": MODEL,
                    "inputs": [value_of(value)],
                    "request_id": str(number),
                    "sequence_id": 3001,
                    "sequence_start": number == 0,
                    "sequence_end": number == len(VALUES) - 1,
                }

        told = [each async for each in client.stream_infer(requests())]
        assert [error for _, error in told if error] == []
        assert [numbers(result)[1] for result, _ in told] == [
            sum(VALUES[: number + 1]) for number in range(len(VALUES))
        ]
        first = await client.infer(
            MODEL, [value_of(4)], sequence_id="aio", sequence_start=True, sequence_end=True
        )
        assert numbers(first) == (5, 4)


async def test_our_own_client(sequenced):
    inputs = {"INPUT": np.array([[4]], np.int32)}
    with InferenceClient(sequenced.address) as client:
        for number in range(3):
            step = Sequenced("own", start=number == 0, end=number == 2)
            reply = client.infer(MODEL, inputs, sequence=step)
            assert reply.outputs["SUM"].item() == 4 * (number + 1)
        with pytest.raises(RequestError, match="for sequence 44 to model"):
            client.infer(MODEL, inputs, sequence=Sequenced(44))
    async with AsyncInferenceClient(sequenced.address) as client:
        reply = await client.infer(MODEL, inputs, sequence=Sequenced(1, start=True, end=True))
        assert reply.outputs["SUM"].item() == 4


def test_many_sequences_at_a_time_keep_their_own_states(sequenced):
    def one(sequence: int) -> bool:
        with triton.InferenceServerClient(sequenced.address) as client:
            sums = [
                ask(client, sequence + n, sequence, sequence_start=n == 0, sequence_end=n == 19)[1]
                for n in range(20)
            ]
        return sums == [sum(sequence + m for m in range(n + 1)) for n in range(20)]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(5001, 5017)))


@pytest.mark.parametrize(
    ("flags", "text"),
    [
        (
            {},
            f"inference request to model '{MODEL}' must specify a non-zero or non-empty correlation",
        ),
        (
            {"sequence_id": 77},
            f"inference request for sequence 77 to model '{MODEL}' must specify the START flag on "
            "the first request of the sequence",
        ),
        (
            {"sequence_id": "seventy", "sequence_end": True},
            f"inference request for sequence seventy to model '{MODEL}' must specify the START flag",
        ),
    ],
)
def test_refusals_in_tritons_words(client, flags, text):
    with pytest.raises(InferenceServerException) as refused:
        client.infer(MODEL, [value_of(1)], **flags)
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
    assert refused.value.message().startswith(text)


def test_a_bad_request_of_a_stream_leaves_its_sequence_and_the_stream(sequenced):
    told = streamed(
        sequenced.address, [(6001, 1, False, False), (6002, 1, True, False), (6002, 2, False, True)]
    )
    assert "must specify the START flag" in str(told[0][1])
    assert [numbers(result)[1] for result, _ in told[1:]] == [1, 3]


def test_rows_of_one_request_cannot_be_one_sequence(client):
    value = triton.InferInput("INPUT", [2, 1], "INT32")
    value.set_data_from_numpy(np.ones((2, 1), np.int32))
    with pytest.raises(InferenceServerException, match="must specify batch-size 1 due to"):
        client.infer(MODEL, [value], sequence_id=9, sequence_start=True)


def test_records_name_the_sequence_and_the_step(client, sequenced):
    for number in range(3):
        ask(client, number, "kept", sequence_start=number == 0, sequence_end=number == 2)
    with AuditReader(sequenced.state / "audit" / "log.db") as log:
        steps = [
            entry.record.step
            for entry in log.records()
            if isinstance(entry.record, Inference) and entry.record.sequence == "kept"
        ]
    assert sorted(steps) == [1, 2, 3]


def test_a_sequence_stays_with_the_version_that_began_it(moving):
    with triton.InferenceServerClient(moving.address) as client:
        assert ask(client, 1, 5, sequence_start=True)[1] == 1
        activate(moving.socket, 2)
        assert ask(client, 2, 5)[1] == 3  # version 2 would say 6
        assert ask(client, 1, 6, sequence_start=True)[1] == 2
        assert ask(client, 4, 5, sequence_start=True)[1] == 8  # begun anew, with the new version
        assert ask(client, 1, 5, sequence_end=True)[1] == 10
        assert ask(client, 1, 6)[1] == 4
        pinned = client.infer(
            MODEL, [value_of(3)], model_version="1", sequence_id=6, sequence_start=True
        )
        assert numbers(pinned)[1] == 3  # a version that is asked by name has sequences of its own
        assert ask(client, 1, 6)[1] == 6


def test_a_version_that_is_let_go_waits_for_its_sequences_until_its_time_is_over(
    start_runtime, sequence_state, tmp_path
):
    state = Path(shutil.copytree(sequence_state, tmp_path / "state"))
    moving = start_runtime(
        state, '[server]\naddress = "127.0.0.1:0"\ndrain_seconds = 2.0\nrepository_control = true\n'
    )
    for version in (1, 2):
        activate(moving.socket, version)
    with triton.InferenceServerClient(moving.address) as client:
        kept = {"model_version": "1", "sequence_id": 5}
        client.infer(MODEL, [value_of(1)], sequence_start=True, **kept)
        ask(client, 1, 6, sequence_start=True)
        activate(moving.socket, 1, "retire")
        moving.wait_for("version.held")  # its sequence had two seconds to end
        moving.wait_for("version.closed")
        assert ask(client, 1, 6)[1] == 4
        client.unload_model(MODEL)
        moving.wait_for("decision.done")
        client.load_model(MODEL)
        with pytest.raises(InferenceServerException, match="must specify the START flag"):
            ask(client, 1, 6)


def test_a_canary_answers_whole_sequences(moving):
    activate(moving.socket, 2, "start_canary", per_mille=500)
    factors = {}
    with triton.InferenceServerClient(moving.address) as client:
        for sequence in range(1, 41):
            factors[sequence] = ask(client, 1, sequence, sequence_start=True)[1]
        activate(moving.socket, 2, "end_canary")
        for sequence, factor in factors.items():
            assert ask(client, 1, sequence)[1] == 2 * factor  # those of the former canary too
    assert set(factors.values()) == {1, 2}


def test_states_do_not_survive_the_process(moving, start_runtime):
    with triton.InferenceServerClient(moving.address) as client:
        ask(client, 1, 5, sequence_start=True)
    assert moving.stop(9) == -9
    again = start_runtime(moving.state)
    with (
        triton.InferenceServerClient(again.address) as client,
        pytest.raises(InferenceServerException, match="must specify the START flag"),
    ):
        ask(client, 2, 5)


def test_a_live_sequence_holds_up_no_stop(moving):
    with triton.InferenceServerClient(moving.address) as client:
        ask(client, 1, 5, sequence_start=True)
    assert moving.stop() == 0
    assert not [event for event in moving.events() if event["event"] == "version.held"]


def test_no_shadow_with_states(moving):
    with pytest.raises(DecisionError, match="it would miss requests of its sequences"):
        activate(moving.socket, 2, "start_shadow")
