"""One case through the house, and through ONNX Runtime alone.

Knows: how a case becomes an engineer's files, and what the outcome is called. Rules: the way is that of
every model (pack, build, the store, the servable that serves); answers are compared by the function with
which onnx compares backends. Leaves to others: which cases, and in which process.

Outcomes: `passed`; `close` (outside the case's tolerance, yet within ROUNDING of its largest value, which
is what the arithmetic of the datatype can do); `refused` (an ApplianceError, with its code); `wrong`
(any other answer than the case expects); `crashed` (any other exception).
"""

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from cases import Case
from onnx.backend.test.runner import Runner

from appliance.config import Config, EngineConfig, StateConfig
from appliance.errors import ApplianceError
from appliance.signing import SigningKey
from appliance.store import Store
from compiler.build import build
from compiler.pack import pack
from compiler.targets import TARGETS
from runtime.servable import load_proven

SPEC = """
[model]
name = "case"
release_notes = "a case of onnx.backend.test"
batch_max = 0

[data]
sample = "sample.npz"
held_out = "sample.npz"
golden_rows = 1

[tolerance.fp32]
absolute = {atol!r}
relative = {rtol!r}

[provenance]
data_sha256 = "0000000000000000000000000000000000000000000000000000000000000000"
training_code = "onnx.backend.test"
frameworks = {{ onnx = "1" }}
"""
KEY = SigningKey.generate()
PASSED, CLOSE, REFUSED, WRONG, CRASHED = "passed", "close", "refused", "wrong", "crashed"
ROUNDING = 8  # units of the datatype's resolution, of the largest expected value
ALONE = "alone"
WAYS = (ALONE, *(target.kind for target in TARGETS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a case: one of the words above, and the error's code, text and remedy."""

    what: str
    code: str = ""
    text: str = ""
    remedy: str = ""


def outcome_of(case: Case, way: str) -> Outcome:
    """Run `case` by ONNX Runtime ALONE, or through the house for the target called `way`."""
    if way == ALONE:
        return _alone(case)
    with tempfile.TemporaryDirectory(prefix="holdfast-case-") as directory:
        try:
            return _compared(case, _served(case, Path(directory), way))
        except ApplianceError as error:
            return Outcome(what=REFUSED, code=error.code, text=str(error), remedy=error.remedy)
        except Exception as error:  # noqa: BLE001 - whatever else it is, it is what is looked for
            return Outcome(what=CRASHED, code=type(error).__name__, text=str(error))


def files(case: Case, directory: Path) -> tuple[Path, Path]:
    """Write the model, the spec and one row of every input; return the first two's paths."""
    model, spec = directory / "case.onnx", directory / "case.toml"
    model.write_bytes(case.model)
    spec.write_text(SPEC.format(atol=case.atol, rtol=case.rtol))
    inputs = zip(case.inputs, case.sets[0][0], strict=True)
    np.savez(
        directory / "sample.npz",
        **{
            name: _at_rest(np.asarray(value))[None]
            for name, value in inputs
            if not isinstance(value, list | None)
        },
    )
    return model, spec


def _alone(case: Case) -> Outcome:
    """By ONNX Runtime with its defaults, one thread and no log lines."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    try:
        session = onnxruntime.InferenceSession(
            case.model, options, providers=["CPUExecutionProvider"]
        )
        answers = [
            session.run(list(case.outputs), dict(zip(case.inputs, map(_fed, inputs), strict=True)))
            for inputs, _ in case.sets
        ]
    except Exception as error:  # noqa: BLE001 - the library's errors share no base class
        return Outcome(what=REFUSED, code=type(error).__name__, text=str(error))
    return _compared(case, answers)


def _served(case: Case, directory: Path, way: str) -> list[list[Any]]:
    """The served answers to every set of inputs, in the order of the graph's outputs."""
    model, spec = files(case, directory)
    bundle, state = directory / "case.holdfast", directory / "state"
    config = Config(state=StateConfig(directory=str(state)), engine=EngineConfig(threads=1))
    KEY.public.save(config.state.trust / "engineer.pub")
    pack(model, spec, bundle, key=KEY, in_process=True)
    targets = [target for target in TARGETS if target.kind == way]
    version = build(bundle, config, targets=targets, in_process=True).version
    stored = Store(config.state.store).open("case", version.number)
    servable = load_proven(stored, threads=1)
    try:
        answers = []
        for inputs, _ in case.sets:
            sent = {name: _sent(value) for name, value in zip(case.inputs, inputs, strict=True)}
            answer = servable.run([sent])[0]
            if isinstance(answer, ApplianceError):
                raise answer
            answers.append([answer.outputs[name] for name in case.outputs])
    finally:
        servable.close()
    return answers


def _compared(case: Case, answers: Sequence[Sequence[Any]]) -> Outcome:
    pairs = [
        (_plain(wanted), _plain(answer))
        for answer, (_, wanted) in zip(answers, case.sets, strict=True)
    ]
    try:
        for wanted, answer in pairs:
            Runner.assert_similar_outputs(wanted, answer, rtol=case.rtol, atol=case.atol)
    except (AssertionError, TypeError, AttributeError) as error:
        units = max(map(_units, pairs))
        if units <= ROUNDING:
            return Outcome(what=CLOSE, text=f"by at most {math.ceil(units)} units")
        return Outcome(what=WRONG, code="answer", text=" ".join(str(error).split())[:300])
    return Outcome(what=PASSED)


def _units(pair: tuple[list[Any], list[Any]]) -> float:
    """The largest difference of two lists of arrays, in units of resolution of the largest value."""
    wanted, got = pair
    if len(wanted) != len(got):
        return math.inf
    return max((_units_of(*arrays) for arrays in zip(wanted, got, strict=True)), default=0.0)


def _units_of(wanted: np.ndarray, got: np.ndarray) -> float:
    """Of one array; anything but finite floats must be equal."""
    if got.shape != wanted.shape or got.dtype != wanted.dtype:
        return math.inf
    if np.array_equal(wanted, got) or not wanted.size:
        return 0.0
    if wanted.dtype.kind != "f" or not (np.isfinite(wanted).all() and np.isfinite(got).all()):
        return math.inf
    expected = wanted.astype(np.float64)
    unit = float(np.finfo(wanted.dtype).eps) * float(np.abs(expected).max())
    error = float(np.abs(got.astype(np.float64) - expected).max())
    return error / unit if unit else math.inf


def _at_rest(array: np.ndarray) -> np.ndarray:
    """Texts as fixed-width ones: a file of arrays holds no objects."""
    return array.astype(np.str_) if array.dtype == object else array


def _sent(value: Any) -> Any:
    """An array as it comes off the wire: texts are bytes."""
    array = np.asarray(value)
    if array.dtype.kind not in "OU":
        return array
    return np.array([_bytes(item) for item in array.ravel()], object).reshape(array.shape)


def _bytes(item: Any) -> bytes:
    return item if isinstance(item, bytes) else str(item).encode()


def _fed(value: Any) -> Any:
    """A value as ONNX Runtime's Python interface takes it; what it cannot take, it refuses itself."""
    return value if isinstance(value, list | None) else np.asarray(value)


def _plain(values: Sequence[Any]) -> list[Any]:
    """Arrays one after another, those of sequences too, each with its length in front.

    Texts are `str`, whether they came as bytes or not.
    """
    arrays: list[Any] = []
    for value in values:
        if isinstance(value, list | tuple):
            arrays += [np.asarray(len(value)), *_plain(value)]
            continue
        array = np.asarray(value)
        if array.dtype.kind in "OSU":
            texts = [item.decode() if isinstance(item, bytes) else str(item) for item in array.flat]
            array = np.array(texts, object).reshape(array.shape)
        arrays.append(array)
    return arrays
