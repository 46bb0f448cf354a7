"""The life of the serving process: start, swap, stop, crash, and what each leaves behind."""

import contextlib
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
import tritonclient.grpc as triton
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.utils import InferenceServerException

from appliance.audit.kinds import Boot, Inference, Outcome, Stop
from appliance.audit.reader import AuditReader
from appliance.audit.verify import verify
from appliance.errors import Draining, StoreError
from appliance.signing import PublicKey
from appliance.store import Store
from runtime.client import ControlClient
from tests.runtime.loads import Load, tensor


def infer(runtime, **more):
    with triton.InferenceServerClient(runtime.address) as client:
        return client.infer("digits", [tensor()], **more).get_response()


def logged(state):
    with AuditReader(state / "audit" / "log.db") as reader:
        return [entry.record for entry in reader.records()]


def verified(state):
    return verify(state / "audit" / "log.db", PublicKey.load(state / "keys" / "box.pub"))


def test_swaps_under_load_lose_nothing(state, start_runtime):
    runtime = start_runtime(state)
    runtime.decide("activate", 1)
    with Load(runtime.address) as load:
        runtime.decide("activate", 2)
        load.wait_for(20)
        for _ in range(4):
            runtime.decide("roll_back")
            load.wait_for(20)
    assert load.failed == []
    assert {1, 2} == set(load.answered.values())
    assert runtime.stop() == 0
    in_log = {r.request_id: r.version for r in logged(state) if isinstance(r, Inference)}
    assert in_log == load.answered


def test_an_active_version_is_not_unloaded_under_a_request_that_pins_it(state, start_runtime):
    runtime = start_runtime(state)
    runtime.decide("activate", 1)
    runtime.decide("activate", 2)
    assert infer(runtime, model_version="1").model_version == "1"
    runtime.decide("retire", 1)
    with pytest.raises(InferenceServerException, match="not at ready state"):
        infer(runtime, model_version="1")


def test_sigterm_drains_and_leaves_a_closed_log(state, start_runtime):
    runtime = start_runtime(state)
    runtime.decide("activate", 1)
    with Load(runtime.address) as load:
        load.wait_for(20)
        assert runtime.stop(signal.SIGTERM) == 0
    # CANCELLED: gRPC's own word for a call that arrives in the moment it closes, before us.
    refused = {"StatusCode.UNAVAILABLE", "StatusCode.CANCELLED"}
    assert {error.status() for error in load.failed} <= refused
    records = logged(state)
    assert isinstance(records[0], Boot)
    assert isinstance(records[-1], Stop)
    assert load.answered.keys() <= {r.request_id for r in records if isinstance(r, Inference)}
    found = verified(state)
    assert found.checkpointed == found.records
    assert not runtime.socket.exists()


def test_idle_streams_and_watchers_do_not_hold_up_a_stop(state, start_runtime):
    settings = '[server]\naddress = "127.0.0.1:0"\ndrain_seconds = 3600.0\n'
    runtime = start_runtime(state, settings)
    with (
        grpc.insecure_channel(runtime.address) as channel,
        ControlClient(runtime.socket) as control,
    ):
        health = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(health).status == health_pb2.HealthCheckResponse.SERVING
        statuses = control.watch(100)
        assert not next(statuses).draining
        runtime.process.send_signal(signal.SIGTERM)
        assert next(health).status == health_pb2.HealthCheckResponse.NOT_SERVING
        assert [status.draining for status in statuses][-1]
        assert runtime.process.wait() == 0


def test_a_file_in_place_of_the_socket_is_left_alone(state, start_runtime):
    (state / "control.sock").write_text("precious")
    code, told = refused_start(start_runtime, state)
    assert code == 22
    assert "is in the way" in told
    assert (state / "control.sock").read_text() == "precious"


def test_kill_9_under_load_loses_no_answer_and_boots_to_the_last_decision(state, start_runtime):
    runtime = start_runtime(state)
    runtime.decide("activate", 1)
    runtime.decide("activate", 2)
    with Load(runtime.address) as load:
        load.wait_for(40)
        runtime.stop(signal.SIGKILL)
    assert load.answered
    assert load.answered.keys() <= {
        record.request_id for record in logged(state) if isinstance(record, Inference)
    }
    verified(state)
    again = start_runtime(state)
    assert infer(again).model_version == "2"
    assert infer(again, model_version="1").model_version == "1"
    verified(state)


def test_a_version_that_fails_to_load_leaves_the_old_one_serving(state, start_runtime):
    runtime = start_runtime(state)
    runtime.decide("activate", 1)
    second = Store(state / "store").describe("digits", 2)
    engine = second.directory / second.record.engine.file
    engine.chmod(0o644)
    engine.write_bytes(b"\0" + engine.read_bytes()[1:])
    with pytest.raises(StoreError, match="was changed"):
        runtime.decide("activate", 2)
    assert infer(runtime).model_version == "1"
    outcome = [record for record in logged(state) if isinstance(record, Outcome)][-1]
    assert (outcome.result, outcome.deployment.active) == ("failed", 1)


def test_a_damaged_active_version_leaves_its_model_unready_after_boot(state, start_runtime):
    runtime = start_runtime(state)
    runtime.decide("activate", 1)
    runtime.stop()
    (state / "store" / "digits" / "1" / "golden.npz").unlink()
    again = start_runtime(state)
    assert again.wait_for("model.unready")["code"] == "store.damaged"
    with triton.InferenceServerClient(again.address) as client:
        assert client.is_server_live()
        assert not client.is_server_ready()
    with pytest.raises(InferenceServerException, match="not at ready state"):
        infer(again)
    again.decide("activate", 2)
    assert infer(again).model_version == "2"


def refused_start(start_runtime, state, settings=""):
    """The exit code and the journal of a runtime that does not start."""
    runtime = start_runtime(state, settings, wait=False)
    return runtime.process.wait(), runtime.journal.read_text()


@pytest.mark.parametrize("section", ["server", "metrics"])
def test_a_taken_port_is_named(state, start_runtime, section):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        settings = f'[{section}]\naddress = "127.0.0.1:{port}"\n'
        code, told = refused_start(start_runtime, state, settings)
    assert code == 22
    assert "error [server.listen]" in told
    assert f"127.0.0.1:{port}" in told
    assert "remedy:" in told


def test_a_state_directory_that_cannot_be_is_named(tmp_path, start_runtime):
    (tmp_path / "file").touch()
    code, told = refused_start(start_runtime, tmp_path / "file" / "state")
    assert code == 11
    assert "error [state.unusable]" in told


@pytest.mark.parametrize("lost", ["deleted", "emptied"])
def test_a_lost_log_is_not_replaced_by_a_new_one(state, start_runtime, lost):
    start_runtime(state).stop()
    log = state / "audit" / "log.db"
    log.unlink()
    log.with_name("log.db-wal").unlink(missing_ok=True)  # left where a reader was the last one out
    if lost == "emptied":
        log.touch()
    code, told = refused_start(start_runtime, state)
    assert code == 24
    assert "error [audit.broken]" in told
    assert "move keys/box.pem" in told


# Interrupts itself when a room is about to be loaded; before the entry point runs, Python itself would tell.
INTERRUPTED = """
import signal, sys
from runtime.entry import main
class Interrupting:
    def find_spec(self, name, *_):
        if name == "{room}":
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
main()
"""


@pytest.mark.parametrize("room", ["runtime.server", "runtime.parts"])
def test_an_interrupt_while_its_rooms_are_loaded_ends_quietly(state, start_runtime, room):
    runtime = start_runtime(state, wait=False, code=INTERRUPTED.format(room=room))
    assert runtime.process.wait() == 130
    assert "Traceback" not in runtime.journal.read_text()


def test_an_interrupt_while_starting_ends_quietly(state, start_runtime):
    runtime = start_runtime(state, wait=False)
    runtime.wait_for("runtime.starting")
    assert runtime.stop(signal.SIGINT) == 0
    assert "Traceback" not in runtime.journal.read_text()


LOADING_FOR_EVER = """
import threading
from appliance import journal
from runtime import loading
from runtime.entry import main
def hold(stored):
    journal.event("version.held")
    threading.Event().wait()
loading.check_room = hold
main()
"""


def test_a_version_that_is_loading_does_not_hold_up_a_stop_at_the_start(state, start_runtime):
    first = start_runtime(state)
    first.decide("activate", 1)
    first.stop()
    again = start_runtime(state, wait=False, code=LOADING_FOR_EVER)
    again.wait_for("version.held")
    assert again.stop() == 0
    again.wait_for("runtime.stopped")
    assert isinstance(logged(state)[-1], Stop)


def test_a_version_that_is_loading_does_not_hold_up_a_stop_later(state, start_runtime):
    runtime = start_runtime(state, code=LOADING_FOR_EVER)
    with ThreadPoolExecutor() as pool:
        deciding = pool.submit(runtime.decide, "activate", 1)
        runtime.wait_for("version.held")
        assert runtime.stop() == 0
        with pytest.raises(Draining):
            deciding.result()
    runtime.wait_for("runtime.stopped")
    *_, outcome, last = logged(state)
    assert isinstance(outcome, Outcome)
    assert outcome.result == "interrupted"
    assert isinstance(last, Stop)


def test_a_client_whose_version_is_loading_hears_of_a_stop(state, start_runtime):
    settings = '[server]\naddress = "127.0.0.1:0"\nrepository_control = true\n'
    runtime = start_runtime(state, settings, code=LOADING_FOR_EVER)
    with triton.InferenceServerClient(runtime.address) as client, ThreadPoolExecutor() as pool:
        deciding = pool.submit(client.load_model, "digits")
        runtime.wait_for("version.held")
        assert runtime.stop() == 0
        with pytest.raises(InferenceServerException, match="the runtime is stopping"):
            deciding.result()


def test_a_second_runtime_on_the_same_state_is_refused(state, start_runtime):
    runtime = start_runtime(state)
    code, told = refused_start(start_runtime, state)
    assert code == 11
    assert "error [state.unusable]" in told
    assert "checkpoint.signed" not in told, "the log is the other's to publish"
    runtime.decide("activate", 1)
    assert infer(runtime).model_version == "1"


def test_a_wrong_setting_is_named_with_the_nearest_right_one(state, start_runtime):
    code, told = refused_start(start_runtime, state, "[batching]\nrow_max = 3\n")
    assert code == 10
    assert "did you mean `rows_max`?" in told


def test_an_oversize_message_is_refused(state, start_runtime):
    settings = '[server]\naddress = "127.0.0.1:0"\nrequest_bytes_max = 10000\n'
    runtime = start_runtime(state, settings)
    runtime.decide("activate", 1)
    large = np.zeros((1, 200, 200, 1), np.uint8)
    made = triton.InferInput("image", list(large.shape), "UINT8")
    made.set_data_from_numpy(large)
    with triton.InferenceServerClient(runtime.address) as client:
        with pytest.raises(InferenceServerException) as refused:
            client.infer("digits", [made])
        assert refused.value.status() == "StatusCode.RESOURCE_EXHAUSTED"
        client.infer("digits", [tensor()])


@contextlib.contextmanager
def listening(path):
    """What a service manager at `path` hears during the block; its queue is short, so it listens all the while."""
    heard = []
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)

        def listen():
            while said := manager.recv(4096):
                heard.extend(said.decode().splitlines())

        listener = threading.Thread(target=listen)
        listener.start()
        try:
            yield heard
        finally:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
                last.sendto(b"", path)
            listener.join()


def test_systemd_hears_ready_watchdog_and_stopping(state, start_runtime, tmp_path, monkeypatch):
    path = f"{tmp_path}/notify"
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    monkeypatch.setenv("WATCHDOG_USEC", "200000")
    with listening(path) as heard:
        start_runtime(state).stop()
    words = [line for line in heard if not line.startswith("STATUS")]
    assert words[0].startswith("EXTEND_TIMEOUT_USEC=")
    assert words[1] == "READY=1"
    assert "WATCHDOG=1" in words
    assert words[-1] == "STOPPING=1"
