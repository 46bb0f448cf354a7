"""Ranges of a model's tensors, found by running the sample's prepared rows: what int8 scales are made from.

Knows: the three ways a range is found. Rules: the graph that runs is the one that is quantised (`folded`);
ONNX Runtime on one thread, so that equal rows give equal ranges; the digest of the rows is kept beside
them. Leaves to others: preparing rows (`sealing`), the scales (`quantised`).

Ranges are symmetric in the end, since zero points are 0, so what is chosen is a largest magnitude:
  minmax      the largest that occurred;
  percentile  the smallest that PERCENTILE of all values do not exceed;
  entropy     the one at which the distribution, clipped there and counted in 128 levels, is nearest to the
              clipped one by Kullback-Leibler divergence (S. Migacz, "8-bit inference with TensorRT",
              GTC 2017, s7310; the first of the bins is left out, for ReLU fills it with zeros).
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper

from appliance.errors import BundleContent, SourceUnsupported
from appliance.files import open_regular
from appliance.golden import arrays_to_bytes
from appliance.manifest import Calibration, CalibrationMethod, Precision
from appliance.tables import canonical_json, from_json
from appliance.tensors import Array
from compiler.opening.source import Source
from compiler.precision.folded import folded
from compiler.precision.operators import heavy_nodes, tensor_types
from runtime.engines.libraries import onnxruntime
from runtime.engines.onnxruntime_cpu import plain_options

PERCENTILE = 99.99
BINS, LEVELS, STRIDE = 2048, 128, 16
SMALLEST = 1e-4
CALL_BYTES_MAX = 256 << 20  # of all watched tensors of one call
RANGES_BYTES_MAX = 64 << 20


class Ranges(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lowest and highest value of each tensor that int8 needs, and what they were found from."""

    format: Literal[1] = 1
    calibration: Calibration
    tensors: dict[str, tuple[float, float]]

    def to_bytes(self) -> bytes:
        """The ranges as CALIBRATION_FILE holds them."""
        return canonical_json(self)

    @classmethod
    def load(cls, path: Path) -> "Ranges":
        """Read CALIBRATION_FILE of an extracted bundle; raises as `from_bytes`, also when it is missing."""
        try:
            with open_regular(path) as file:
                return cls.from_bytes(file.read(RANGES_BYTES_MAX + 1))
        except OSError as error:
            raise BundleContent(
                f"cannot read the calibration: {error.strerror or error}",
                remedy="pack the model again",
            ) from error

    @classmethod
    def from_bytes(cls, data: bytes) -> "Ranges":
        """Read CALIBRATION_FILE. Raises BundleContent on anything but finite ordered ranges."""
        if len(data) > RANGES_BYTES_MAX:
            raise BundleContent(
                f"the calibration has more than {RANGES_BYTES_MAX} bytes",
                remedy="pack the model again",
            )
        ranges = from_json(data, cls, BundleContent, where="the calibration")
        largest = float(np.finfo(np.float32).max)
        for name, (low, high) in ranges.tensors.items():
            if not -largest <= low <= high <= largest:
                raise BundleContent(
                    f"the calibration says that '{name}' lies in {low} to {high}",
                    remedy="pack the model again",
                )
        return ranges


def calibrate(
    source: Source, prepared: Mapping[str, Array], method: CalibrationMethod, *, batch_max: int
) -> Ranges | None:
    """Find the ranges by running all rows of `prepared`: engine inputs by name, rows in front.

    `batch_max` is the engine interface's; with 0 each row is run without its first axis. None when the
    model has nothing that int8 would compute. Raises EngineBuild when ONNX Runtime does not take the
    model, SourceUnsupported naming a tensor that is not finite on these rows.
    """
    model = folded(source)
    nodes = heavy_nodes(model.graph, tensor_types(model), Precision.INT8)
    constants = {tensor.name for tensor in model.graph.initializer}
    watched = sorted(
        {name for node in nodes for name in (*node.input, *node.output) if name} - constants
    )
    if not watched:
        return None
    run = _Run(model, watched, prepared, batch_max)
    extremes = _extremes(run)
    largest = {name: max(-low, high, 0.0) for name, (low, high) in extremes.items()}
    if method is not CalibrationMethod.MINMAX:
        find = _by_entropy if method is CalibrationMethod.ENTROPY else _by_percentile
        counts = _histograms(run, largest)
        largest = {name: find(counts[name]) * largest[name] for name in watched}
    return Ranges(
        calibration=Calibration(
            method=method,
            rows=run.rows,
            data_sha256=hashlib.sha256(arrays_to_bytes(prepared)).hexdigest(),
        ),
        tensors={
            name: (max(low, -largest[name]), min(high, largest[name]))
            for name, (low, high) in extremes.items()
        },
    )


class _Run:
    """The model with the watched tensors as outputs, run over the rows as often as needed."""

    def __init__(
        self,
        model: onnx.ModelProto,
        watched: list[str],
        prepared: Mapping[str, Array],
        batch_max: int,
    ) -> None:
        self.rows = len(next(iter(prepared.values())))
        self._prepared, self._batched = prepared, batch_max > 0
        self._given = [name for name in watched if name in prepared]
        self._made = [name for name in watched if name not in prepared]
        self._session = _session(model, self._made)
        self._rows_max = self._rows_in_a_call(batch_max) if batch_max else 1

    def calls(self) -> Iterator[dict[str, Array]]:
        """The watched tensors of all rows, some rows at a time."""
        for start in range(0, self.rows, self._rows_max):
            yield self._call(slice(start, start + self._rows_max))

    def _call(self, part: slice) -> dict[str, Array]:
        inputs = {
            name: array[part] if self._batched else array[part.start, ...]
            for name, array in self._prepared.items()
        }
        made: list[Any] = self._session.run(self._made, inputs) if self._made else []
        found = dict(zip(self._made, made, strict=True))
        found |= {name: inputs[name] for name in self._given}
        for name, array in found.items():
            if not np.isfinite(array).all():
                raise SourceUnsupported(
                    f"tensor '{name}' is not finite on row {part.start} of the sample or one of the "
                    "rows after it, so it has no range",
                    remedy="take such rows out of the sample, or use a precision without calibration",
                )
        return found

    def _rows_in_a_call(self, batch_max: int) -> int:
        one = sum(array.nbytes for array in self._call(slice(0, 1)).values())
        return max(1, min(batch_max, CALL_BYTES_MAX // max(one, 1)))


def _session(model: onnx.ModelProto, made: list[str]) -> Any:
    """A session on a copy of `model` that gives the tensors `made` too."""
    augmented = onnx.ModelProto()
    augmented.CopyFrom(model)
    known = {info.name for info in model.graph.output}
    augmented.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in made
        if name not in known
    )
    return onnxruntime().InferenceSession(
        augmented.SerializeToString(), plain_options(), providers=["CPUExecutionProvider"]
    )


def _extremes(run: _Run) -> dict[str, tuple[float, float]]:
    found: dict[str, tuple[float, float]] = {}
    for call in run.calls():
        for name, array in call.items():
            if array.size:
                low, high = found.get(name, (np.inf, -np.inf))
                found[name] = min(low, float(array.min())), max(high, float(array.max()))
            else:
                found.setdefault(name, (0.0, 0.0))
    return found


def _histograms(run: _Run, largest: Mapping[str, float]) -> dict[str, Array]:
    """Of each tensor's magnitudes, BINS equal bins from 0 to its largest."""
    counts = {name: np.zeros(BINS, np.int64) for name in largest}
    for call in run.calls():
        for name, array in call.items():
            span = (0.0, largest[name] or 1.0)
            counts[name] += np.histogram(np.abs(array), BINS, span)[0]
    return counts


def _by_percentile(counts: Array) -> float:
    """The share of the largest magnitude that PERCENTILE of the values do not exceed."""
    reached = np.cumsum(counts) >= counts.sum() * (PERCENTILE / 100)
    return float(np.argmax(reached) + 1) / BINS


def _by_entropy(counts: Array) -> float:
    """The share of the largest magnitude to clip at; 1 when nothing but zeros occurred."""
    counts = counts.astype(np.float64)
    counts[0] = counts[1]
    if not counts.any():
        return 1.0
    ends = range(LEVELS, BINS + 1, STRIDE)
    divergences = [_divergence(counts, end) for end in ends]
    return ends[int(np.argmin(divergences))] / BINS


def _divergence(counts: Array, end: int) -> float:
    """Of the distribution clipped at bin `end` from the same one in LEVELS levels, in nats.

    A last bin that only clipped values fall into counts as SMALLEST of a value there, so that the
    divergence stays finite.
    """
    clipped = counts[:end].copy()
    occupied = clipped > 0
    level = np.arange(end) * LEVELS // end
    sums = np.bincount(level, weights=clipped, minlength=LEVELS)
    bins = np.bincount(level, weights=occupied, minlength=LEVELS)
    coarse = np.where(occupied, (sums / np.maximum(bins, 1.0))[level], 0.0)
    clipped[-1] += counts[end:].sum()
    coarse = np.where((clipped > 0) & (coarse == 0), SMALLEST, coarse)
    told = clipped > 0
    p, q = clipped[told] / clipped.sum(), coarse[told] / coarse.sum()
    return float(np.sum(p * np.log(p / q)))
