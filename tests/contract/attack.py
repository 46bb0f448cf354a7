"""One mutant against the house: packed, built and served, or refused.

Knows: the kinds of mutants, the honest files they come from, what a clean refusal is. Rules: kind and seed
name a mutant wholly; a refusal has a code, a message and a remedy and leaves nothing behind; what is
not refused must be served, which proves it again on its golden vectors. Leaves to others: processes and
counting (`fuzz`).
"""

import random
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from forgeries import arrays_mutant, bundle_mutant, forgery
from house import CRASHED, REFUSED, Outcome
from model_mutants import model_mutant
from mutants import bytes_mutant, spec_mutant

from appliance.config import BuildConfig, Config, EngineConfig, StateConfig
from appliance.errors import ApplianceError
from appliance.signing import SigningKey
from appliance.store import Store
from compiler.build import build
from compiler.pack import pack
from runtime.servable import golden_of, load_proven

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SOURCES = tuple(
    EXAMPLES / name for name in ("digits/digits-1", "digits/digits-2", "tumours/tumours-1")
)
KEY = SigningKey(
    Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
)  # no secret: for mutants only
SERVED = "served"
MEMORY_BYTES_MAX = 4 << 30
SECONDS_MAX = 20.0
DATA = ("sample.npz", "held_out.npz")


class Mutant(msgspec.Struct, frozen=True):
    """A mutant's name: its kind and seed."""

    kind: str
    seed: int


def fate(mutant: Mutant, *, in_process: bool) -> Outcome:
    """What becomes of a mutant: served, refused or crashed."""
    with tempfile.TemporaryDirectory(prefix="holdfast-mutant-") as name:
        directory = Path(name)
        try:
            bundle = _bundle(mutant, directory, in_process=in_process)
            _build_and_serve(bundle, directory, in_process=in_process)
        except ApplianceError as error:
            return _refused(error, directory)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
            return Outcome(what=CRASHED, code=type(error).__name__, text=str(error))
        return Outcome(what=SERVED)


def model_of(mutant: Mutant) -> bytes:
    """The ONNX file of a mutant of the kinds `model bytes` and `model fields`."""
    rng, source = _generator(mutant)
    change = bytes_mutant if mutant.kind == "model bytes" else model_mutant
    return change(source.with_suffix(".onnx").read_bytes(), rng)


def spec_of(mutant: Mutant) -> str:
    """The text of a mutant of the kind `spec`."""
    rng, source = _generator(mutant)
    return spec_mutant(source.with_suffix(".toml").read_text("utf-8"), rng)


def bundle_of(mutant: Mutant) -> bytes:
    """The bundle of a mutant of the kinds `bundle bytes` and `forged bundle`."""
    rng, source = _generator(mutant)
    honest = honest_bundle(source)
    if mutant.kind == "bundle bytes":
        return bundle_mutant(honest, rng)
    return forgery(honest, KEY, rng)


@cache
def honest_bundle(source: Path) -> bytes:
    """The bundle of an example, which is the same every time."""
    with tempfile.TemporaryDirectory(prefix="holdfast-mutant-") as directory:
        path = Path(directory) / "honest.holdfast"
        model, spec = source.with_suffix(".onnx"), source.with_suffix(".toml")
        pack(model, spec, path, key=KEY, in_process=True)
        return path.read_bytes()


def _generator(mutant: Mutant) -> tuple[random.Random, Path]:
    rng = random.Random(f"{mutant.kind} {mutant.seed}")
    return rng, rng.choice(SOURCES)


def _bundle(mutant: Mutant, directory: Path, *, in_process: bool) -> Path:
    """The mutant's bundle, packed from mutated files or mutated itself."""
    path = directory / "mutant.holdfast"
    if mutant.kind in ("bundle bytes", "forged bundle"):
        path.write_bytes(bundle_of(mutant))
        return path
    rng, source = _generator(mutant)
    work = directory / "work"
    work.mkdir()
    model, spec = work / "mutant.onnx", work / "mutant.toml"
    shutil.copy(source.with_suffix(".onnx"), model)
    shutil.copy(source.with_suffix(".toml"), spec)
    for name in DATA:
        shutil.copy(source.parent / name, work / name)
    _CHANGE[mutant.kind](mutant, rng, work)
    pack(model, spec, path, key=KEY, config=_config(directory), in_process=in_process)
    return path


def _config(directory: Path) -> Config:
    """A box with little to give, so that a hungry mutant comes to its end soon."""
    return Config(
        state=StateConfig(directory=str(directory / "state")),
        engine=EngineConfig(threads=1),
        build=BuildConfig(memory_bytes_max=MEMORY_BYTES_MAX, seconds_max=SECONDS_MAX),
    )


def _change_model(mutant: Mutant, _: random.Random, work: Path) -> None:
    (work / "mutant.onnx").write_bytes(model_of(mutant))


def _change_spec(mutant: Mutant, _: random.Random, work: Path) -> None:
    (work / "mutant.toml").write_text(spec_of(mutant), "utf-8")


def _change_data(_: Mutant, rng: random.Random, work: Path) -> None:
    path = work / rng.choice(DATA)
    change = rng.choice((bytes_mutant, arrays_mutant))
    path.write_bytes(change(path.read_bytes(), rng))


_CHANGE: dict[str, Callable[[Mutant, random.Random, Path], None]] = {
    "model bytes": _change_model,
    "model fields": _change_model,
    "spec": _change_spec,
    "data": _change_data,
}
KINDS = (*_CHANGE, "bundle bytes", "forged bundle")


def _build_and_serve(bundle: Path, directory: Path, *, in_process: bool) -> None:
    config = _config(directory)
    KEY.public.save(config.state.trust / "engineer.pub")
    version = build(bundle, config, in_process=in_process).version
    stored = Store(config.state.store).open(version.record.model, version.number)
    servable = load_proven(stored, threads=1)
    try:
        golden = golden_of(stored.directory)
        batched = servable.interface.batch_max > 0
        row = {name: array[:1] if batched else array[0] for name, array in golden.inputs.items()}
        (answer,) = servable.run([row])
        assert not isinstance(answer, ApplianceError), f"a golden row is not served: {answer}"
    finally:
        servable.close()


def _refused(error: ApplianceError, directory: Path) -> Outcome:
    """A refusal, if it is one as it should be."""
    versions = [path for path in directory.glob("state/store/*/*") if path.parent.name[0] != "."]
    staged = [path for path in directory.glob("state/store/.staging/*") if path.is_dir()]
    if versions or staged:
        return Outcome(what=CRASHED, code="left behind", text=f"{versions + staged}")
    if not (str(error).strip() and error.remedy.strip()) or error.code == ApplianceError.code:
        return Outcome(what=CRASHED, code="no reason", text=f"[{error.code}] {error}")
    return Outcome(what=REFUSED, code=error.code, text=str(error), remedy=error.remedy)
