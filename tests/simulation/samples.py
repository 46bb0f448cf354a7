"""A small version to file, as a build would make it."""

from appliance.bundle import entry
from appliance.manifest import Limits, Manifest, Precision, Provenance, Tolerances
from appliance.proof import Proof
from appliance.recipe import Recipe
from appliance.store import EngineEntry, VersionRecord
from appliance.tensors import DataType, Interface, TensorSpec

CONTENTS = {"model.onnx": b"engine" * 300, "empty": b"", "deep/golden.npz": b"vectors" * 100}
FILES = tuple(entry(name, data) for name, data in CONTENTS.items())


def manifest() -> Manifest:
    """What a bundle with CONTENTS says."""
    interface = Interface(
        inputs=(TensorSpec(name="x", datatype=DataType.FP32, shape=(4,)),),
        outputs=(TensorSpec(name="scores", datatype=DataType.FP32, shape=(3,)),),
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
        acceptance=(),
        limits=Limits(),
        disturbances=(),
        calibration=None,
        fallback=False,
        source_sha256="1" * 64,
        sample_sha256="2" * 64,
        provenance=Provenance(data_sha256="0" * 64, training_code="r1", frameworks={}),
        files=FILES,
    )


def version_record(bundle: str, *, release: str = "0.1.0") -> VersionRecord:
    """What a build of the bundle with this digest files."""
    return VersionRecord(
        model="tiny",
        bundle_sha256=bundle,
        signer="b" * 64,
        built="2026-11-20T10:00:00.000000Z",
        release=release,
        engine=EngineEntry(
            kind="onnxruntime",
            precision=Precision.FP32,
            file="model.onnx",
            sha256=FILES[0].sha256,
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
        files=FILES,
    )
