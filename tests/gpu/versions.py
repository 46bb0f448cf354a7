"""Versions whose engine is for a GPU: those of the store, over the stand-in of `tests.gpu.sessions`.

Knows: that a version's portable engine is a plan for the stand-in. Rules: the version is replaced as `holdfast-compile refresh`
would do it. Leaves to others: real plans.
"""

import hashlib
import shutil
from pathlib import Path

import msgspec

from appliance.errors import GpuUnusable, RecipeError
from appliance.manifest import PROFILE_FILE, FileEntry, Manifest, Precision
from appliance.profiles import Profile
from appliance.store import EngineEntry, Store, StoredVersion
from appliance.tables import from_json
from runtime.gpu.engine_file import Compiled, write_engine_file
from runtime.kernels.cuda.splitting import split
from runtime.kernels.cuda.toolchain import edition
from tests.gpu.fake_kernels import sources_image

FILE = "engine.fp32.trt"
STAMP = {"gpu": "a fake"}

# What a process runs to serve them: the fake of a GPU, the stand-in for TensorRT, and a stamp that fits.
SERVER = """
import os
import sys

sys.path.insert(0, os.getcwd())  # an owner's process looks where this one does, but for the working directory
from appliance.config import GpuConfig
from runtime import stale
from runtime.entry import main
from runtime.gpu import current
from tests.gpu import few_threads
from tests.gpu.versions import STAMP

real = stale.stamp_of
stale.stamp_of = lambda kind: STAMP if kind == "tensorrt" else real(kind)
current.use(
    GpuConfig(),
    executions="tests.gpu.sessions:open_sessions",
    devices="tests.gpu.fakes:open_fake",
)
main()
"""


def engine_file(path: Path, plan: bytes, manifest: Manifest, **told: object) -> None:
    """Write an engine file of `manifest`'s engine."""
    engine = manifest.engine
    told.setdefault("inputs", {spec.name: str(spec.datatype) for spec in engine.inputs})
    told.setdefault("outputs", {spec.name: str(spec.datatype) for spec in engine.outputs})
    write_engine_file(path, plan=plan, stamp=STAMP, **told)


def kernels_of(stored: StoredVersion) -> dict[str, object]:
    """What an engine file says of the kernels of a version's recipe, and the module that the fake runs them from."""
    data = (stored.directory / PROFILE_FILE).read_bytes()
    profile = from_json(data, Profile, RecipeError, where=PROFILE_FILE)
    sources = split(stored.manifest.recipe, stored.manifest.stateless, profile.layout).kernels()
    image = Compiled(format="cubin", capability=(9, 0), image=sources_image(sources))
    names = tuple(source.name for source in sources)
    return {"modules": (image,), "kernels": names, "edition": edition()}


def put_on_gpu(state: Path, model: str, number: int, *, fused: bool = False) -> StoredVersion:
    """Give a version of `state` an engine for the GPU; the portable one stays to fall back on.

    `fused` has the GPU run the recipe too.
    """
    store = Store(state / "store")
    stored = store.open(model, number)
    record = stored.record
    portable = record.fallback or record.engine
    assert portable.kind == "onnxruntime-portable", portable.kind
    with store.stage() as staged:
        shutil.copytree(stored.directory, staged, dirs_exist_ok=True)
        plan = (staged / portable.file).read_bytes()
        engine_file(staged / FILE, plan, stored.manifest, **(kernels_of(stored) if fused else {}))
        data = (staged / FILE).read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        entry = EngineEntry(
            kind="tensorrt", precision=Precision.FP32, file=FILE, sha256=digest, stamp=STAMP
        )
        files = (*record.files, FileEntry(name=FILE, sha256=digest, bytes=len(data)))
        fresh = msgspec.structs.replace(record, engine=entry, fallback=portable, files=files)
        return store.replace(staged, stored, fresh)


def open_none(*_settings: str) -> None:
    """See `runtime.gpu.opening.open_device`, on a box whose GPU somebody else has for himself."""
    raise GpuUnusable("no GPU today", remedy="free it")
