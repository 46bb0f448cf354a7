"""Small graphs to lower, and the reference's answer to them."""

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest

from appliance.manifest import CalibrationMethod
from compiler.opening.source import Source, open_source
from compiler.precision import Ranges
from compiler.precision.calibration import calibrate
from runtime.engines.libraries import onnxruntime


def source_of(model: onnx.ModelProto) -> Source:
    """The model as a source, without a file."""
    onnx.checker.check_model(model, full_check=True)
    return Source(data=model.SerializeToString(), model=model)


def run(source: Source, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Run a model as it is in ONNX Runtime, without any optimisation."""
    library = onnxruntime()
    options = library.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = library.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = library.InferenceSession(source.data, options, providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


@pytest.fixture
def make_source() -> Callable[[onnx.ModelProto], Source]:
    """Makes a source of a model; see `source_of`."""
    return source_of


@pytest.fixture
def run_source() -> Callable[..., dict[str, np.ndarray]]:
    """Runs a source; see `run`."""
    return run


@pytest.fixture
def transformer(bert: ModuleType) -> Source:
    """Two layers of an encoder."""
    return source_of(bert.Encoder(layers=2, width=32, heads=4, tokens=8).model())


@pytest.fixture
def digits() -> Source:
    """The digits CNN."""
    return open_source(Path(__file__).parents[3] / "examples" / "digits" / "digits-2.onnx")


@pytest.fixture
def ranges_of() -> Callable[..., Ranges]:
    """Calibrates by extremes on some rows."""

    def found(source: Source, inputs: dict[str, np.ndarray]) -> Ranges:
        ranges = calibrate(source, inputs, CalibrationMethod.MINMAX, batch_max=8)
        assert ranges is not None
        return ranges

    return found
