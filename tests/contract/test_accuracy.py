"""How near the CPU engines stay to the fp32 reference in each precision: a CNN and a transformer.

The bounds are what is promised in docs/decisions/0020-precision.md; errors are of the range of the
reference's outputs.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest

from appliance.errors import EngineBuild
from appliance.manifest import CalibrationMethod, Precision
from appliance.recipe import Recipe
from appliance.tensors import Array, Interface
from compiler.opening.graph import interface_of
from compiler.opening.source import Source, open_source
from compiler.precision import Ranges, lowered
from compiler.precision.calibration import calibrate
from compiler.reference import Reference
from compiler.rows.samples import Rows, read_rows
from compiler.spec import read_spec
from compiler.targets import TARGETS
from runtime.engines import load_engine

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
PRECISIONS = (Precision.FP32, Precision.FP16, Precision.BF16, Precision.INT8)
METHODS = list(CalibrationMethod)
BATCH_MAX = 32
CNN_BOUND = {
    Precision.FP32: 1e-6, Precision.FP16: 0.002, Precision.BF16: 0.01, Precision.INT8: 0.03,
}  # fmt: skip
TRANSFORMER_BOUND = {
    Precision.FP32: 1e-5, Precision.FP16: 0.002, Precision.BF16: 0.01, Precision.INT8: 0.06,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A model, prepared rows, the reference's outputs, and ranges found on other rows."""

    source: Source
    interface: Interface
    prepared: dict[str, Array]
    wanted: Array
    ranges: Ranges


@pytest.fixture(scope="module")
def cnn() -> Case:
    """The digits CNN on its held-out rows, calibrated on its sample."""
    source, spec = open_source(DIGITS / "digits-2.onnx"), read_spec(DIGITS / "digits-2.toml")
    interface = interface_of(source, BATCH_MAX)
    reference = Reference(source, spec.full_recipe(), interface)
    specs = [item.raw for item in spec.recipe.inputs]
    sample, held_out = (read_rows(DIGITS / f"{name}.npz", specs) for name in ("sample", "held_out"))
    seen = reference.joined(reference.calls(sample))
    call = reference.joined(reference.calls(held_out))
    return _case(source, interface, seen.prepared, call.prepared, call.outputs["logits"])


@pytest.fixture(scope="module")
def transformer(bert, tmp_path_factory) -> Case:
    """Four layers of an encoder on random tokens."""
    path = tmp_path_factory.mktemp("bert") / "bert.onnx"
    onnx.save(bert.Encoder(layers=4, width=64, heads=4, tokens=16).model(), path)
    source = open_source(path)
    interface = interface_of(source, BATCH_MAX)
    random = np.random.default_rng(20)
    seen, asked = (
        {"embedded": random.normal(size=(count, 16, 64)).astype(np.float32)} for count in (64, 32)
    )
    (call,) = Reference(source, Recipe(), interface).calls(Rows(inputs=asked))
    return _case(source, interface, seen, call.prepared, call.outputs["hidden"])


def _case(
    source: Source,
    interface: Interface,
    seen: dict[str, Array],
    prepared: dict[str, Array],
    wanted: Array,
) -> Case:
    ranges = calibrate(source, seen, CalibrationMethod.MINMAX, batch_max=BATCH_MAX)
    assert ranges is not None
    return Case(source=source, interface=interface, prepared=prepared, wanted=wanted, ranges=ranges)


def computed(case: Case, target, precision: Precision, directory: Path) -> Array:
    """The engine's outputs; skips where this box or library does not compute so."""
    reason = target.unable(precision)
    if reason is not None:
        pytest.skip(reason)
    graph = lowered(case.source, precision, case.ranges)
    try:
        entry = target.compile(graph, directory, case.interface, 1, precision)
    except EngineBuild as error:
        if f"products in fp32, not in {precision}" not in str(error):
            raise
        pytest.skip(str(error))
    engine = load_engine(
        entry.kind,
        directory / entry.file,
        interface=case.interface,
        threads=1,
        precision=precision,
    )
    rows = len(case.wanted)
    parts = [
        engine.run({name: array[at : at + BATCH_MAX] for name, array in case.prepared.items()})
        for at in range(0, rows, BATCH_MAX)
    ]
    engine.close()
    return np.concatenate([next(iter(part.values())) for part in parts])


def largest_error(case: Case, got: Array) -> float:
    return float(np.abs(got - case.wanted).max() / np.ptp(case.wanted))


each = pytest.mark.parametrize(
    ("target", "precision"),
    [(target, precision) for target in TARGETS for precision in PRECISIONS],
    ids=lambda item: getattr(item, "kind", item),
)


@each
def test_the_cnn_stays_within_its_bound_and_keeps_its_classes(cnn, tmp_path, target, precision):
    got = computed(cnn, target, precision, tmp_path)
    assert largest_error(cnn, got) <= CNN_BOUND[precision]
    agreed = got.argmax(axis=1) == cnn.wanted.argmax(axis=1)
    assert agreed.mean() >= (1.0 if precision is Precision.FP32 else 0.99)


@each
def test_the_transformer_stays_within_its_bound(transformer, tmp_path, target, precision):
    got = computed(transformer, target, precision, tmp_path)
    assert largest_error(transformer, got) <= TRANSFORMER_BOUND[precision]


@pytest.mark.parametrize("method", METHODS)
def test_every_way_of_calibrating_keeps_the_classes(cnn, tmp_path, method):
    target = next(item for item in TARGETS if item.kind == "openvino")
    ranges = calibrate(cnn.source, cnn.prepared, method, batch_max=BATCH_MAX)
    assert ranges is not None
    case = Case(
        source=cnn.source,
        interface=cnn.interface,
        prepared=cnn.prepared,
        wanted=cnn.wanted,
        ranges=ranges,
    )
    got = computed(case, target, Precision.INT8, tmp_path)
    agreed = got.argmax(axis=1) == cnn.wanted.argmax(axis=1)
    assert agreed.mean() >= 0.98
