"""A small bundle's content, as the tests of bundle, manifest and store use it."""

from collections.abc import Callable

import pytest

from appliance.bundle import entry
from appliance.manifest import (
    Acceptance,
    Limits,
    Manifest,
    Metric,
    Precision,
    Provenance,
    Tolerances,
)
from appliance.proof import Proof
from appliance.recipe import Recipe
from appliance.store import EngineEntry, VersionRecord
from appliance.tensors import DataType, Interface, TensorSpec

CONTENTS = {"model.onnx": b"the model" * 50, "empty": b"", "deep/golden.npz": b"vectors"}


@pytest.fixture
def contents() -> dict[str, bytes]:
    """Files of a bundle by name."""
    return dict(CONTENTS)


@pytest.fixture
def manifest(contents: dict[str, bytes]) -> Manifest:
    """What a bundle with `contents` says."""
    scores = TensorSpec(name="scores", datatype=DataType.FP32, shape=(3,))
    interface = Interface(
        inputs=(TensorSpec(name="x", datatype=DataType.FP32, shape=(4,)),),
        outputs=(scores,),
        batch_max=8,
    )
    return Manifest(
        model="tiny",
        release_notes="first",
        served=interface,
        engine=interface,
        recipe=Recipe(),
        precision=Precision.FP32,
        tolerances=Tolerances(),
        acceptance=(Acceptance(metric=Metric.ACCURACY, output="scores", minimum=0.9),),
        limits=Limits(),
        disturbances=(),
        calibration=None,
        fallback=False,
        source_sha256="1" * 64,
        sample_sha256="2" * 64,
        provenance=Provenance(data_sha256="0" * 64, training_code="r1", frameworks={}),
        files=tuple(entry(name, data) for name, data in contents.items()),
    )


@pytest.fixture
def record(manifest: Manifest) -> Callable[..., VersionRecord]:
    """Makes what a build files: record(bundle="ab...")."""

    def make(bundle: str = "a" * 64, model: str = "tiny") -> VersionRecord:
        return VersionRecord(
            model=model,
            bundle_sha256=bundle,
            signer="b" * 64,
            built="2026-11-20T10:00:00.000000Z",
            release="0.1.0",
            engine=EngineEntry(
                kind="onnxruntime",
                precision=Precision.FP32,
                file="model.onnx",
                sha256="c" * 64,
                stamp={},
            ),
            proof=Proof(
                golden_rows=1,
                error_max=0.0,
                error_p99=0.0,
                reached=(),
                outputs=(),
                buckets=(),
                disturbed=(),
                memory_bytes=None,
            ),
            trials=(),
            files=manifest.files,
        )

    return make
