"""A version for the checks: pictures through a recipe into one dense layer, whose GPU engine is the stand-in.

Knows: how such a version comes into a store. Rules: it is packed, built and proven for the CPU like any other, and then gets an engine for
the GPU as `holdfast-compile refresh` would give it one, with the recipe's kernels compiled for the device. Leaves to others: serving it.
"""

import hashlib
import shutil
from pathlib import Path

import msgspec
import numpy as np
import onnx

from appliance.config import Config, StateConfig
from appliance.config.models import BuildConfig, GpuBuildConfig
from appliance.manifest import PROFILE_FILE, FileEntry, Manifest, Precision
from appliance.profiles import Profile
from appliance.signing import SigningKey
from appliance.store import EngineEntry, Store
from compiler.build import build
from compiler.pack import pack
from runtime.gpu.engine_file import write_engine_file
from runtime.kernels.cuda.splitting import split
from runtime.kernels.cuda.toolchain import edition
from tests.hardware.checks.engine import DensePlan
from tests.hardware.checks.ground import Ground
from tests.hardware.checks.kernels import dense

MODEL, CLASSES = "checked", 10
STAMP = {"standin": "dense"}
FILE = "engine.fp32.trt"

SPEC = """
[model]
name = "checked"
release_notes = "made by make gpu-check"
batch_max = {batch}
precision = "fp32"

[data]
sample = "sample.npz"
held_out = "held_out.npz"
golden_rows = 4

[tolerance.fp32]
absolute = 1e-3
relative = 1e-3

[provenance]
data_sha256 = "{zeros}"
training_code = "none: its weights are noise"
frameworks = {{ numpy = "2" }}

[[recipe.inputs]]
feeds = "pixels"
accepts = "raw"
raw = {{ name = "image", datatype = "UINT8", shape = [-1, -1, 3] }}
steps = [
  {{ step = "resize", height = {side}, width = {side}, method = "bilinear", like = "pillow" }},
  {{ step = "cast" }},
  {{ step = "normalise", scale = 0.00392156862745098, mean = [0.485, 0.456, 0.406], std = [0.229, 0.224, 0.225] }},
  {{ step = "layout", order = "CHW" }},
]

[[recipe.after]]
step = "softmax"
tensor = "logits"
output = "probabilities"

[[recipe.after]]
step = "top_k"
tensor = "probabilities"
k = 3
output = "classes"
"""


def made(ground: Ground, root: Path, *, batch: int, side: int, pixels: int) -> Path:
    """A state directory under `root` with both versions of the model; `pixels` is the side of what clients send."""
    state = root / "state"
    key = SigningKey.generate()
    key.public.save(state / "trust" / "checks.pub")
    gpu = GpuBuildConfig(enabled=False)
    config = Config(
        state=StateConfig(directory=str(state)),
        build=msgspec.structs.replace(BuildConfig(), gpu=gpu),
    )
    images = pictures(pixels, ground.sized(64, 16))
    np.savez(root / "sample.npz", image=images)
    labels = np.arange(len(images), dtype=np.int64) % CLASSES
    np.savez(root / "held_out.npz", image=images, label=labels)
    (root / "spec.toml").write_text(SPEC.format(batch=batch, side=side, zeros="0" * 64))
    for number in (1, 2):
        weights = np.random.default_rng(number).normal(0, 0.02, (3 * side * side, CLASSES))
        matrix = weights.astype(np.float32)
        model, bundle = root / f"{number}.onnx", root / f"{number}.holdfast"
        onnx.save(_dense_model(matrix, side), model)
        pack(model, root / "spec.toml", bundle, key=key, in_process=True)
        build(bundle, config, in_process=True)
        _put_on_gpu(ground, state, number, matrix)
    return state


def pictures(side: int, count: int) -> np.ndarray:
    """What clients send."""
    return np.random.default_rng(5).integers(0, 256, (count, side, side, 3), np.uint8)


def _dense_model(matrix: np.ndarray, side: int) -> onnx.ModelProto:
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["pixels"], ["flat"]),
            helper.make_node("Gemm", ["flat", "weights", "bias"], ["logits"]),
        ],
        "checked",
        [helper.make_tensor_value_info("pixels", kind, ["batch", 3, side, side])],
        [helper.make_tensor_value_info("logits", kind, ["batch", CLASSES])],
        [
            onnx.numpy_helper.from_array(matrix, "weights"),
            onnx.numpy_helper.from_array(np.zeros(CLASSES, np.float32), "bias"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def _put_on_gpu(ground: Ground, state: Path, number: int, matrix: np.ndarray) -> None:
    store = Store(state / "store")
    stored = store.open(MODEL, number)
    record, portable = stored.record, stored.record.fallback or stored.record.engine
    with store.stage() as staged:
        shutil.copytree(stored.directory, staged, dirs_exist_ok=True)
        _write(ground, staged, stored.manifest, matrix)
        data = (staged / FILE).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        entry = EngineEntry(
            kind="tensorrt", precision=Precision.FP32, file=FILE, sha256=digest, stamp=STAMP
        )
        files = (*record.files, FileEntry(name=FILE, sha256=digest, bytes=len(data)))
        fresh = msgspec.structs.replace(record, engine=entry, fallback=portable, files=files)
        store.replace(staged, stored, fresh)


def _write(ground: Ground, directory: Path, manifest: Manifest, matrix: np.ndarray) -> None:
    """The engine file: the stand-in's plan, and the recipe's kernels for this device."""
    layout = msgspec.json.decode((directory / PROFILE_FILE).read_bytes(), type=Profile).layout
    sources = split(manifest.recipe, manifest.stateless, layout).kernels()
    # Over the fake kernels run thread by thread, and those with barriers for minutes: there the CPU does the recipe.
    modules, names = ground.sized(lambda: ground.compiled(sources), lambda: ((), ()))()
    (own, *_), _ = ground.compiled([dense])
    plan = DensePlan(
        image=own.image,
        feeds="pixels",
        gives="logits",
        inputs=len(matrix),
        outputs=CLASSES,
        weights=matrix.tobytes(),
        bias=bytes(4 * CLASSES),
    )
    engine = manifest.engine
    write_engine_file(
        directory / FILE,
        plan=msgspec.msgpack.encode(plan),
        modules=modules,
        kernels=names,
        edition=edition() if names else "",
        stamp=STAMP,
        inputs={spec.name: str(spec.datatype) for spec in engine.inputs},
        outputs={spec.name: str(spec.datatype) for spec in engine.outputs},
    )
