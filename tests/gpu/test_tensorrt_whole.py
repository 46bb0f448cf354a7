"""A model's whole way over the fakes: bundle, plan, proof, store, the real server, the owner's process, an answer, its record."""

from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton

from appliance.audit.kinds import Inference
from appliance.audit.reader import AuditReader
from appliance.store import Store
from compiler.compiling.cache import EngineCache
from compiler.targets.tensorrt.target import TensorRTTarget
from runtime.client import ControlClient
from runtime.kernels.cuda import toolchain
from tests.compiler.conftest import Workshop, raw_rows, true_classes
from tests.conftest import runtimes
from tests.gpu.building import gpu, no_kernels, on_gpu
from tests.gpu.fake_tensorrt import FakeTensorRT
from tests.gpu.owned import ledger, pretend
from tests.gpu.pretended_tensorrt import RELEASE

# What serves: the real server, whose owner's process finds the fakes; the stamp is that of the build.
SERVER = """
import os
import sys

sys.path.insert(0, os.getcwd())
from appliance.config import GpuConfig
from runtime import stale
from runtime.entry import main
from runtime.gpu import current
from tests.gpu.building import STAMP

real = stale.stamp_of
stale.stamp_of = lambda kind: STAMP if kind == "tensorrt" else real(kind)
current.use(
    GpuConfig(),
    executions="tests.gpu.pretended_tensorrt:open_execution",
    devices="tests.gpu.fakes:open_fake",
)
main()
"""


@pytest.mark.parametrize("release", ["10.3", "11.4"])
def test_from_a_model_to_answers_on_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, release: str
) -> None:
    monkeypatch.setattr(toolchain, "compile_kernels", no_kernels)
    workshop = Workshop(tmp_path)
    workshop.pack()
    manifest, _ = workshop.contents()
    box = gpu()
    cache = EngineCache(
        store=Store(workshop.config.state.store), manifest=manifest, threads=1, gpu=box.settings
    )
    target = TensorRTTarget(gpu=box, manifest=manifest, earlier=cache.stripped)
    with FakeTensorRT(release).installed() as fake, on_gpu(fake):
        version = workshop.build(targets=[target]).version
    assert version.record.engine.kind == "tensorrt"

    monkeypatch.setenv(RELEASE, release)
    pretend(monkeypatch, ledger=str(tmp_path / "ledger"))
    model = version.record.model
    rows = raw_rows(5)
    with runtimes(tmp_path) as start:
        runtime = start(tmp_path / "state", code=SERVER)
        with ControlClient(runtime.socket) as control:
            control.decide(model, "activate", 1, actor="test", reason="the whole way")
        with triton.InferenceServerClient(runtime.address) as client:
            sent = triton.InferInput("person", list(rows.shape), "FP32")
            sent.set_data_from_numpy(rows)
            answer = client.infer(model, [sent], request_id="asked")
        assert runtime.stop() == 0
    assert np.array_equal(answer.as_numpy("classes")[:, 0], true_classes(rows))
    with AuditReader(tmp_path / "state" / "audit" / "log.db") as reader:
        records = [entry.record for entry in reader.records()]
    (asked,) = [record for record in records if isinstance(record, Inference)]
    assert asked.request_id == "asked"
    (told,) = ledger(tmp_path / "ledger")
    assert told["leaks"] == {}
