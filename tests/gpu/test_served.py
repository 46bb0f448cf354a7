"""Versions on a GPU, served by the real runtime over the real wire: the owner's process, the fake of a GPU behind it."""

import base64
import json
import os
import threading
import time
from collections import Counter

import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from appliance.audit.kinds import Failure, Inference
from appliance.audit.reader import AuditReader
from appliance.errors import GpuMemory
from appliance.store import Store
from runtime.client import ControlClient
from runtime.servable import load_proven
from tests.conftest import runtimes
from tests.gpu.fake_memory import SHARED
from tests.gpu.pretence import VARIABLE
from tests.gpu.sessions import BREAKS
from tests.gpu.versions import SERVER, put_on_gpu

KILLER = np.full((1, 16, 16, 1), 255, np.uint8)  # prepared, it is nothing but 1.85
PATIENCE_SECONDS = 60.0  # a bound, not a wait
SWAPS = 6
UNAVAILABLE = "StatusCode.UNAVAILABLE"


@pytest.fixture
def gpu_state(state):
    """A state directory whose two versions of digits are for a GPU."""
    for number in (1, 2):
        put_on_gpu(state, "digits", number)
    return state


@pytest.fixture
def serve(tmp_path, monkeypatch, gpu_state):
    """Starts a runtime over the fake with version 2 active; `ledgers` tells what the fake wrote at its ends."""
    ledger = tmp_path / "ledger"
    monkeypatch.setenv(BREAKS, "1.85")
    with runtimes(tmp_path) as start:

        def started(settings="", *, code=SERVER, **pretence):
            monkeypatch.setenv(VARIABLE, json.dumps({"ledger": str(ledger), **pretence}))
            runtime = start(gpu_state, settings, code=code)
            activate(runtime, 2)
            return runtime

        started.ledgers = lambda: [json.loads(line) for line in ledger.read_text().splitlines()]
        yield started


def activate(runtime, number):
    with ControlClient(runtime.socket) as control:
        control.decide("digits", "activate", number, actor="test", reason="test")


def ask(client, images, name=""):
    sent = triton.InferInput("image", images.shape, "UINT8")
    sent.set_data_from_numpy(images)
    return client.infer("digits", [sent], request_id=name)


class Callers:
    """Threads that ask one image after the other while the block runs; outcomes by request id."""

    def __init__(self, address, images, threads=4):
        self.answered, self.failed = {}, {}
        self._images, self._stop = images, threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(address, number)) for number in range(threads)
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def until(self, count):
        """Wait until so many more are answered."""
        wanted, until = len(self.answered) + count, time.monotonic() + PATIENCE_SECONDS
        while len(self.answered) < wanted:
            assert time.monotonic() < until, self.failed
            self._stop.wait(0.01)

    def _ask(self, address, number):
        with triton.InferenceServerClient(address) as client:
            count = 0
            while not self._stop.is_set():
                name, at = f"{number}-{count}", (7 * number + count) % len(self._images)
                count += 1
                try:
                    reply = ask(client, self._images[at : at + 1], name)
                    self.answered[name] = (at, reply.as_numpy("logits"))
                except InferenceServerException as error:
                    self.failed[name] = error.status()


def recorded(runtime, kind):
    """Request ids of the records of one kind, each with how often it is there."""
    with AuditReader(runtime.state / "audit" / "log.db") as reader:
        records = [entry.record for entry in reader.records()]
    return Counter(record.request_id for record in records if isinstance(record, kind))


def test_a_version_on_a_gpu_answers_as_on_the_processor(serve, digits_state, held_out):
    servable = load_proven(Store(digits_state / "store").open("digits", 2), threads=1)
    (wanted,) = servable.run([{"image": held_out["image"][:8]}])
    servable.close()
    runtime = serve()
    with triton.InferenceServerClient(runtime.address) as client:
        reply = ask(client, held_out["image"][:8])
        config = client.get_model_config("digits", as_json=True)["config"]
    for name in ("logits", "probabilities"):
        np.testing.assert_allclose(reply.as_numpy(name), wanted.outputs[name], atol=1e-4, rtol=1e-3)
    np.testing.assert_array_equal(reply.as_numpy("labels"), wanted.outputs["labels"])
    assert config["platform"] == "holdfast_tensorrt"
    assert config["instance_group"] == [{"name": "digits", "kind": "KIND_GPU", "count": 2}]
    assert runtime.stop() == 0
    (told,) = serve.ledgers()
    assert told["leaks"] == {}
    assert told["calls"]["replay"] > 0, "warm batches are graphs"


def test_a_broken_gpu_costs_each_request_on_its_way_one_error(serve, held_out):
    runtime = serve()
    with (
        Callers(runtime.address, held_out["image"][:50]) as callers,
        triton.InferenceServerClient(runtime.address) as client,
    ):
        for number in range(2):
            callers.until(20)
            with pytest.raises(InferenceServerException) as broken:
                ask(client, KILLER, f"killer-{number}")
            assert broken.value.status() == UNAVAILABLE
        callers.until(20)
        runtime.wait_for("gpu.lost")
        until = time.monotonic() + PATIENCE_SECONDS
        while not client.is_server_ready() and time.monotonic() < until:
            pass
        assert client.is_server_ready()
    assert runtime.stop() == 0
    assert {*callers.failed.values()} <= {UNAVAILABLE}
    by_image = {}
    for at, logits in callers.answered.values():
        np.testing.assert_allclose(by_image.setdefault(at, logits), logits, atol=1e-5)
    assert recorded(runtime, Inference) == Counter(callers.answered.keys())
    failed = [*callers.failed, "killer-0", "killer-1"]
    assert recorded(runtime, Failure) == Counter(failed)
    assert serve.ledgers()[-1]["leaks"] == {}


def test_of_two_gpus_the_other_serves_while_one_rests(serve, held_out):
    runtime = serve('[gpu]\ndevices = ["0", "1"]\nrestarts_max = 0\nrest_seconds = 600.0\n')
    with triton.InferenceServerClient(runtime.address) as client:
        with pytest.raises(InferenceServerException):
            ask(client, KILLER)
        runtime.wait_for("gpu.lost")
    with Callers(runtime.address, held_out["image"][:50]) as callers:
        callers.until(100)
    assert callers.failed == {}
    assert runtime.stop() == 0


def test_swaps_under_load_cost_no_request_and_give_all_memory_back(serve, held_out):
    runtime = serve()
    with Callers(runtime.address, held_out["image"][:50]) as callers:
        for number in range(SWAPS):
            activate(runtime, 1 + number % 2)
        callers.until(20)
    assert callers.failed == {}
    assert runtime.stop() == 0
    (told,) = serve.ledgers()
    assert told["leaks"] == {}


def test_a_version_for_which_the_gpu_has_no_room_changes_nothing(serve, held_out):
    runtime = serve(memory_bytes=2 << 20)  # the weights of each stand-in are a mebibyte
    with pytest.raises(GpuMemory) as short:
        activate(runtime, 1)
    assert "free" in str(short.value)
    assert short.value.remedy
    with triton.InferenceServerClient(runtime.address) as client:
        assert ask(client, held_out["image"][:1]).get_response().model_version == "2"


def test_an_engine_that_no_longer_fits_serves_on_the_processor(serve, held_out):
    code = SERVER.replace("STAMP if kind", "{'gpu': 'another'} if kind")
    runtime = serve(code=code)
    told = runtime.wait_for("engine.stale")
    assert "tensorrt" in str(told["why"])
    with triton.InferenceServerClient(runtime.address) as client:
        assert ask(client, held_out["image"][:1]).get_response().model_version == "2"
    assert runtime.stop() == 0


def test_tensors_in_a_clients_memory_on_the_gpu(serve, held_out):
    """The fake opens a handle as the file of that name in /dev/shm."""
    images = held_out["image"][:2]
    names = {kind: f"holdfast-fake-{kind}-{os.getpid()}" for kind in ("in", "out")}
    paths = {kind: SHARED / name for kind, name in names.items()}
    try:
        paths["in"].write_bytes(images.tobytes())
        paths["out"].write_bytes(bytes(80))
        runtime = serve("[shared_memory]\ncuda_allowed = true\n")
        with triton.InferenceServerClient(runtime.address) as client:
            for kind, name in names.items():
                handle = base64.b64encode(name.encode().ljust(64, b"\0"))
                size = paths[kind].stat().st_size
                client.register_cuda_shared_memory(kind, handle, 0, size)
            with pytest.raises(InferenceServerException, match="invalid args"):
                client.register_cuda_shared_memory("more", handle, 0, 81)
            sent = triton.InferInput("image", images.shape, "UINT8")
            sent.set_shared_memory("in", images.nbytes)
            asked = triton.InferRequestedOutput("logits")
            asked.set_shared_memory("out", 80)
            reply = client.infer("digits", [sent], outputs=[asked]).get_response()
            assert list(reply.raw_output_contents) == [b""]
            wanted = ask(client, images).as_numpy("logits")
            written = np.frombuffer(paths["out"].read_bytes(), np.float32).reshape(2, 10)
            np.testing.assert_allclose(written, wanted, atol=1e-6)
            with pytest.raises(InferenceServerException):
                ask(client, KILLER)
            # The owner that starts anew opens it again.
            client.infer("digits", [sent], outputs=[asked])
            client.unregister_cuda_shared_memory()
            assert not client.get_cuda_shared_memory_status().regions
        assert runtime.stop() == 0
        assert serve.ledgers()[-1]["leaks"] == {}
    finally:
        for path in paths.values():
            path.unlink(missing_ok=True)


def test_a_version_whose_gpu_cannot_be_opened_serves_on_the_processor(serve, held_out):
    code = SERVER.replace("tests.gpu.fakes:open_fake", "tests.gpu.versions:open_none")
    runtime = serve(code=code)
    assert "no GPU today" in str(runtime.wait_for("engine.stale")["why"])
    with triton.InferenceServerClient(runtime.address) as client:
        assert ask(client, held_out["image"][:1]).get_response().model_version == "2"
    assert runtime.stop() == 0
