"""The real process on either transport, asked by the stock client: what only the whole of it shows."""

import os
import shutil
import signal
import time
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import tritonclient.grpc as triton
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException

from appliance.audit.kinds import Failure, Inference, Stop
from appliance.audit.reader import AuditReader
from appliance.audit.verify import verify
from appliance.deployment import Deployment
from appliance.signing import PublicKey
from runtime.router import in_canary
from tests.conftest import runtimes
from tests.runtime.transport.test_tls import LOOPBACK, Authority

SETTINGS = """
[server]
address = "127.0.0.1:0"
transport = "{lane}"
name = "triton"
settings_control = true
drain_seconds = 30.0
[shared_memory]
allowed = true
"""
IMAGE = np.arange(64, dtype=np.uint8).reshape(1, 8, 8, 1)


@pytest.fixture(scope="module", params=["fast", "public"])
def lane(request):
    return request.param


@pytest.fixture(scope="module")
def runtime(digits_state, tmp_path_factory, lane):
    """One runtime on each transport, with version 1 of digits active; the tests end it, the last one for good."""
    directory = tmp_path_factory.mktemp("runtime")
    state = Path(shutil.copytree(digits_state, directory / "state"))
    with runtimes(directory) as start:
        running = start(state, SETTINGS.format(lane=lane))
        running.decide("activate", 1)
        yield running


def tensor(image=IMAGE):
    made = triton.InferInput("image", list(image.shape), "UINT8")
    made.set_data_from_numpy(image)
    return made


def records(runtime, request_id):
    with AuditReader(runtime.state / "audit" / "log.db") as reader:
        return [entry.record for entry in reader.show(request_id)]


def test_scripts_that_check_the_name_find_it(client):
    assert client.get_server_metadata().name == "triton"


def test_a_loop_without_ids_advances_every_count(client):
    def stats():
        (found,) = client.get_inference_statistics("digits", "1").model_stats
        return found

    before, images = stats(), tensor(np.repeat(IMAGE, 2, axis=0))
    for _ in range(50):
        client.infer("digits", [images])
    after = stats()
    assert after.inference_count - before.inference_count == 100
    for part in ("success", "queue", "compute_input", "compute_infer", "compute_output"):
        then, now = (getattr(found.inference_stats, part) for found in (before, after))
        assert now.count - then.count == 50
        assert now.ns > then.ns
    assert after.inference_stats.fail.count == before.inference_stats.fail.count
    assert after.last_inference >= before.last_inference


@pytest.fixture
def region(client):
    """A region of 4096 bytes, registered; unregistered and removed afterwards."""
    key = f"/holdfast-client-{os.getpid()}-{uuid4().hex[:8]}"
    made = shm.create_shared_memory_region("both", key, 4096)
    client.register_system_shared_memory("both", key, 4096)
    yield made
    client.unregister_system_shared_memory("both")
    shm.destroy_shared_memory_region(made)


def test_tensors_go_in_and_out_by_shared_memory(client, runtime, region):
    shm.set_shared_memory_region(region, [IMAGE])
    sent = triton.InferInput("image", [1, 8, 8, 1], "UINT8")
    sent.set_shared_memory("both", 64)
    asked = triton.InferRequestedOutput("probabilities")
    asked.set_shared_memory("both", 40, offset=1024)
    result = client.infer("digits", [sent], outputs=[asked], request_id="by-memory")
    assert result.get_response().raw_output_contents == [b""]
    wanted = client.infer("digits", [tensor()]).as_numpy("probabilities")
    found = shm.get_contents_as_numpy(region, np.float32, [1, 10], offset=1024)
    np.testing.assert_array_equal(found, wanted)
    (record,) = records(runtime, "by-memory")
    (kept,) = record.outputs
    assert kept.data == wanted.tobytes()


def test_an_output_too_large_for_its_place_is_refused_and_nothing_is_written(
    client, runtime, region
):
    asked = triton.InferRequestedOutput("probabilities")
    asked.set_shared_memory("both", 39, offset=1024)
    shm.set_shared_memory_region(region, [np.zeros(4096, np.uint8)])
    with pytest.raises(InferenceServerException, match="should be at least 40 bytes"):
        client.infer("digits", [tensor()], outputs=[asked], request_id="too-large")
    assert not shm.get_contents_as_numpy(region, np.uint8, [4096]).any()
    assert isinstance(records(runtime, "too-large")[-1], Failure)


def test_a_sampled_request_leaves_its_times(client, runtime):
    client.update_trace_settings("digits", {"trace_level": ["TIMESTAMPS"], "trace_rate": "1"})
    client.infer("digits", [tensor()], request_id="traced")
    line = runtime.wait_for("request.traced")  # written after the reply has left
    client.update_trace_settings("digits", {"trace_level": ["OFF"], "trace_rate": None})
    assert (line["request_id"], line["model"], line["version"]) == ("traced", "digits", 1)
    times = list(line["timestamps"].values())
    assert times == sorted(times)
    assert len(times) == 6


def test_a_canary_answers_its_share_and_no_one_elses(client, runtime):
    runtime.decide("start_canary", 2, per_mille=500)
    deployment = Deployment(model="digits", active=1, canary=2, canary_per_mille=500)
    seen = set()
    for number in range(12):
        name = f"patient-{number}"
        wanted = (2, "canary") if in_canary(deployment, name) else (1, "active")
        for _ in range(2):
            reply = client.infer("digits", [tensor()], request_id=name).get_response()
            assert int(reply.model_version) == wanted[0]
        assert {(one.version, one.route) for one in records(runtime, name)} == {wanted}
        seen.add(wanted)
    assert len(seen) == 2
    for label in ("2", "canary"):
        reply = client.infer("digits", [tensor()], model_version=label, request_id=f"pin-{label}")
        assert reply.get_response().model_version == "2"
        assert records(runtime, f"pin-{label}")[0].route == "pinned"
    runtime.decide("end_canary")


def test_a_shadow_answers_the_log_only(client, runtime):
    runtime.decide("start_shadow", 2)
    reply = client.infer("digits", [tensor()], request_id="followed").get_response()
    assert reply.model_version == "1"
    pinned = client.infer("digits", [tensor()], model_version="1", request_id="alone")
    assert pinned.get_response().model_version == "1"
    found = both_records(runtime, "followed")
    runtime.decide("end_shadow")
    assert [(one.version, one.route) for one in records(runtime, "alone")] == [(1, "pinned")]
    assert [(one.version, one.route) for one in found] == [(1, "active"), (2, "shadow")]
    assert found[0].input_sha256 == found[1].input_sha256


def both_records(runtime, request_id):
    """A request's two records; the second comes by itself, and the suite's timeout is the limit."""
    while len(found := records(runtime, request_id)) < 2:
        time.sleep(0.005)
    return found


class Asking:
    """The stock client with a stream and calls that never stop; what was answered, and what went wrong."""

    def __init__(self, address):
        self.answered, self.refused = set(), []
        self._address = address

    def __enter__(self):
        self._client = triton.InferenceServerClient(self._address)
        self._client.start_stream(self._heard)
        for number in range(200):
            self._client.async_stream_infer("digits", [tensor()], request_id=f"stream-{number}")
            self._client.async_infer("digits", [tensor()], self._heard, request_id=f"call-{number}")
        return self

    def __exit__(self, *_):
        self._client.stop_stream(cancel_requests=True)
        self._client.close()

    def _heard(self, result, error):
        if error is None:
            self.answered.add(result.get_response().id)
        else:
            self.refused.append(str(error))


def test_a_stop_under_load_leaves_a_record_of_every_answer(runtime):
    """The last test: it ends the module's runtime."""
    with Asking(runtime.address) as asking:
        while len(asking.answered) < 20:
            assert runtime.process.poll() is None
            time.sleep(0.001)
        assert runtime.stop(signal.SIGTERM) == 0
    with AuditReader(runtime.state / "audit" / "log.db") as reader:
        found = [entry.record for entry in reader.records()]
    assert isinstance(found[-1], Stop)
    recorded = {record.request_id for record in found if isinstance(record, Inference)}
    assert asking.answered <= recorded
    told = verify(
        runtime.state / "audit" / "log.db", PublicKey.load(runtime.state / "keys" / "box.pub")
    )
    assert told.checkpointed == told.records
    assert "Traceback" not in runtime.journal.read_text()


def test_a_client_shows_who_it_is(state, start_runtime, tmp_path, lane):
    authority = Authority(tmp_path, "authority")
    certificate, key = authority.issue("box", LOOPBACK)
    own, own_key = authority.issue("surgery-2")
    name = "cn:surgery-2"
    settings = f"""
[server]
address = "127.0.0.1:0"
transport = "{lane}"
[server.tls]
certificate = "{certificate}"
key = "{key}"
client_ca = "{authority.certificate}"
[[access.principals]]
name = "{name}"
role = "client"
[audit]
awaited = false
"""
    runtime = start_runtime(state, settings)
    runtime.decide("activate", 1)
    shown = {"ssl": True, "root_certificates": authority.certificate}
    with triton.InferenceServerClient(runtime.address, **shown) as nobody:
        with pytest.raises(InferenceServerException):
            nobody.is_server_live()
    shown |= {"private_key": own_key, "certificate_chain": own}
    with triton.InferenceServerClient(runtime.address, **shown) as client:
        reply = client.infer("digits", [tensor()], request_id="shown").get_response()
        assert reply.model_version == "1"
        with pytest.raises(InferenceServerException):
            client.infer("nothing", [tensor()], request_id="refused")
    assert runtime.stop() == 0  # the answer did not wait for its record, the stop does
    assert [record.principal for record in records(runtime, "shown")] == [name]
    assert [record.principal for record in records(runtime, "refused")] == [name]
