"""Every rewrite over onnx's own cases with convolutions or matrix products: well typed, near, or refused.

Knows: `cases`. What is asked: no error but ours, and outputs within a bound of the fp32 ones. ONNX Runtime
computes fp16 by casting to fp32, which leaves the rounding of weights and edges only.
"""

from dataclasses import dataclass

import numpy as np
import onnx
import pytest
from cases import Case, all_cases

from appliance.errors import EngineBuild
from appliance.manifest import CalibrationMethod, Precision
from appliance.tensors import Array
from compiler.opening.source import Source
from compiler.precision import lowered
from compiler.precision.calibration import calibrate
from runtime.engines.libraries import onnxruntime

BOUND = {Precision.FP16: 0.01, Precision.INT8: 0.05}
HEAVY = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
# A mask hides values of 1000 there: steps of 8 bits over their range are as large as the answers.
POISONED = "test_attention_4d_softcap_neginf_mask_poison_expanded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A case that ONNX Runtime computes: its source, inputs and outputs."""

    name: str
    source: Source
    inputs: dict[str, Array]
    outputs: list[Array]


def run(data: bytes, inputs: dict[str, Array]) -> list[Array]:
    library = onnxruntime()
    options = library.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = library.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = library.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    found: list[Array] = session.run(None, inputs)
    return found


@pytest.fixture(scope="module")
def known() -> list[Known]:
    """The cases with heavy operators, arrays in and out, that ONNX Runtime computes as they are."""
    found = [_known(case) for case in all_cases() if HEAVY & set(case.operators) and case.sets]
    return [item for item in found if item is not None]


def _known(case: Case) -> Known | None:
    given = case.sets[0][0]
    if not all(isinstance(array, np.ndarray) and array.dtype != object for array in given):
        return None
    inputs = dict(zip(case.inputs, given, strict=True))
    try:
        outputs = run(case.model, inputs)
    except Exception:  # noqa: BLE001 - they share no base class; the conformance page lists them
        return None
    source = Source(data=case.model, model=onnx.load_from_string(case.model))
    return Known(name=case.name, source=source, inputs=inputs, outputs=outputs)


@pytest.mark.parametrize("precision", [Precision.FP16, Precision.BF16, Precision.INT8])
def test_every_rewrite_is_well_typed_and_near_or_refused(known, precision):
    done, refused = 0, []
    for case in known:
        ranges = None
        if precision is Precision.INT8:
            rows = {name: array[None] for name, array in case.inputs.items()}
            ranges = calibrate(case.source, rows, CalibrationMethod.MINMAX, batch_max=0)
            if ranges is None:
                continue
        try:
            made = lowered(case.source, precision, ranges)
        except EngineBuild as error:
            refused.append(f"{case.name}: {error}")
            continue
        done += 1
        if precision in BOUND and (precision is not Precision.INT8 or case.name != POISONED):
            _check_near(case, run(made.data, case.inputs), BOUND[precision])
    assert done > 100
    assert all("nothing to compute" in reason for reason in refused), refused


def _check_near(case: Known, got: list[Array], bound: float) -> None:
    for one, wanted in zip(got, case.outputs, strict=True):
        assert one.dtype == wanted.dtype
        finite = np.isfinite(wanted) if wanted.dtype.kind == "f" else np.zeros(wanted.shape, bool)
        if finite.any():
            scale = np.ptp(wanted[finite]) or np.abs(wanted[finite]).max() or 1.0
            assert np.abs(one[finite] - wanted[finite]).max() <= bound * scale, case.name
