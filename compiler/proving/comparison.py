"""An engine's outputs against the reference's, at every number of rows that is warmed and at odd ones.

Knows: which outputs are gated and the statistics of their errors. Rules: every golden row is seen in a
call of every size, through recipe, engine and after-steps; floating-point outputs must be within the
tolerance; what hangs on near ties (classes, labels, boxes that were selected) is reported, for it may fall
either way, except that an engine's own integers must be equal in FP32. Leaves to others: the tolerance's
formula (`appliance.golden`) and thresholds (`acceptance`).
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from appliance.errors import GoldenMissed
from appliance.golden import Golden, deviations, is_floating, value_range
from appliance.manifest import Manifest, Precision, Tolerance
from appliance.proof import BucketErrors, OutputErrors
from appliance.recipe import Sigmoid, Softmax
from appliance.tensors import Array
from compiler.progress import Progress
from runtime.servable import Servable, buckets

_QUANTILE = 0.99


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The errors by output and by number of rows."""

    outputs: tuple[OutputErrors, ...]
    buckets: tuple[BucketErrors, ...]

    @property
    def error_max(self) -> float:
        """The largest error of a gated output."""
        return max((item.largest for item in self.buckets), default=0.0)

    @property
    def error_p99(self) -> float:
        """The largest 99th percentile of a gated output's errors."""
        return max((item.p99 or 0.0 for item in self.outputs if item.gated), default=0.0)


def compare(
    servable: Servable,
    golden: Golden,
    manifest: Manifest,
    precision: Precision,
    progress: Progress,
    *,
    lengths: str = "",
) -> Compared:
    """Run the golden rows at every size; a step is a size.

    lengths: those of `golden` in words, where they are not the sealed rows' own; then one row and the
    full batch are run. Raises GoldenMissed at a gated output out of `precision`'s tolerance, or EngineError.
    """
    rows_max = manifest.served.batch_max
    wanted = _wanted(servable, golden, rows_max)
    gated = golden.gated(exact=precision is Precision.FP32) | continuous(manifest)
    tolerance = manifest.tolerances.of(precision)
    tallies = [
        _Tally(name, array, tolerance, gated=name in gated) for name, array in wanted.items()
    ]
    found, by_rows = [], sorted({1, max(rows_max, 1)}) if lengths else sizes(rows_max)
    progress.stage(f"comparing golden rows {lengths}".strip(), len(by_rows))
    for rows in by_rows:
        chosen = np.arange(-(-golden.rows // rows) * rows) % golden.rows
        outputs = _outputs(servable, golden.inputs, chosen, rows if rows_max else 0)
        largest = [tally.add(outputs[tally.name], chosen, rows) for tally in tallies]
        worst = min(max(largest, default=0.0), sys.float_info.max)
        found.append(BucketErrors(rows=rows, largest=worst, lengths=lengths))
        progress.step()
    for tally in tallies:
        tally.check(precision)
    return Compared(outputs=tuple(tally.figures() for tally in tallies), buckets=tuple(found))


def worst_of(compared: Sequence[Compared]) -> Compared:
    """One comparison of several of the same outputs."""
    by_output = zip(*(item.outputs for item in compared), strict=True)
    return Compared(
        outputs=tuple(_worst(items) for items in by_output),
        buckets=tuple(bucket for item in compared for bucket in item.buckets),
    )


def sizes(batch_max: int) -> list[int]:
    """Numbers of rows in a call, rising: the doubling ones that are warmed, 3, 5 and one below the largest."""
    odd = {rows for rows in (3, 5, batch_max - 1) if 0 < rows < batch_max}
    return sorted({*buckets(max(batch_max, 1)), *odd})


def continuous(manifest: Manifest) -> set[str]:
    """The outputs of softmax and sigmoid made from engine outputs or from one another.

    They select nothing, so that a small error before them stays small behind them.
    """
    engine = {spec.name for spec in manifest.stateless.outputs}
    made: set[str] = set()
    for step in manifest.recipe.after:
        if isinstance(step, (Softmax, Sigmoid)) and step.tensor in engine | made:
            made.add(step.output)
    return made


def _wanted(servable: Servable, golden: Golden, rows_max: int) -> dict[str, Array]:
    """The reference's engine outputs and what the after-steps make of them, by name, rows in front."""
    parts = []
    for start in range(0, golden.rows, rows_max or 1):
        rows = slice(start, start + rows_max) if rows_max else start
        parts.append(
            servable.completed(
                {name: array[rows, ...] for name, array in golden.inputs.items()},
                {name: array[rows, ...] for name, array in golden.outputs.items()},
            )
        )
    return {**_joined(parts, rows_max), **golden.outputs}


def _outputs(
    servable: Servable, inputs: Mapping[str, Array], chosen: Array, rows_max: int
) -> dict[str, Array]:
    """What is answered for the `chosen` rows, `rows_max` a call; the engine's own outputs among it."""
    parts = []
    for start in range(0, len(chosen), rows_max or 1):
        rows = chosen[start : start + rows_max] if rows_max else chosen[start]
        engine, served = servable.answered(
            {name: array[rows, ...] for name, array in inputs.items()}
        )
        parts.append({**served, **engine})
    return _joined(parts, rows_max)


def _joined(parts: Sequence[Mapping[str, Array]], rows_max: int) -> dict[str, Array]:
    join = np.concatenate if rows_max else np.stack
    return {name: join([part[name] for part in parts]) for name in parts[0]}


class _Tally:
    """The errors of one output so far: the worst of all numbers of rows."""

    def __init__(self, name: str, reference: Array, tolerance: Tolerance, *, gated: bool) -> None:
        self.name = name
        self._reference, self._tolerance, self._gated = reference, tolerance, gated
        self._floating, self._scale = is_floating(reference), value_range(reference)
        self._largest = self._p99 = 0.0
        self._cosine: float | None = 1.0
        self._agreement, self._argmax_agreement = 1.0, 1.0
        self._miss: str | None = None

    def add(self, got: Array, chosen: Array, rows: int) -> float:
        """Count calls of `rows` rows, which gave `got` for the `chosen` golden rows.

        Returns the largest error among them, 0.0 where none is gated.
        """
        wanted = self._reference[chosen]
        if got.shape != wanted.shape:
            self._note(f"has shape {list(got.shape)}, the reference {list(wanted.shape)}", rows)
            return 0.0
        if not self._floating:
            self._add_discrete(got, wanted, chosen, rows)
            return 0.0
        missed, errors = deviations(got, wanted, self._tolerance, self._scale)
        if missed.any():
            self._note(_place(missed, chosen, got, wanted), rows)
        finite = np.where(np.isnan(errors), np.inf, errors).ravel()
        largest = float(finite.max(initial=0.0))
        self._largest = max(self._largest, largest)
        if finite.size:
            self._p99 = max(self._p99, float(np.quantile(finite, _QUANTILE, method="higher")))
        self._add_direction(got, wanted)
        return largest if self._gated else 0.0

    def check(self, precision: Precision) -> None:
        """Raise GoldenMissed when a gated output was out of tolerance at any size."""
        if not self._gated or self._miss is None:
            return
        if not self._floating:
            raise GoldenMissed(
                f"output '{self.name}' {self._miss}",
                remedy="integers and booleans must be equal: give the values they are made from",
            )
        share = f", {self._largest / self._scale:.2%} of its values' range" if self._scale else ""
        raise GoldenMissed(
            f"output '{self.name}' {self._miss}; its largest error is {self._largest:.3g}{share}",
            remedy=f"raise [tolerance.{precision}] in the spec if this error is acceptable, "
            "or fix the model",
        )

    def figures(self) -> OutputErrors:
        """The statistics."""
        if not self._floating:
            return OutputErrors(output=self.name, gated=self._gated, agreement=self._agreement)
        return OutputErrors(
            output=self.name,
            gated=self._gated,
            largest=min(self._largest, sys.float_info.max),
            p99=min(self._p99, sys.float_info.max),
            cosine=self._cosine,
            argmax_agreement=self._argmax_agreement if _has_classes(self._reference) else None,
        )

    def _note(self, what: str, rows: int) -> None:
        calls = "1 row in a call" if rows == 1 else f"{rows} rows in a call"
        self._miss = self._miss or f"{what} with {calls}"

    def _add_discrete(self, got: Array, wanted: Array, chosen: Array, rows: int) -> None:
        same = np.asarray(got == wanted)
        if not same.all():
            self._note(_place(~same, chosen, got, wanted), rows)
        if same.size:
            self._agreement = min(self._agreement, float(same.mean()))

    def _add_direction(self, got: Array, wanted: Array) -> None:
        cosine = _cosine(got.ravel().astype(np.float64), wanted.ravel().astype(np.float64))
        if cosine is None or self._cosine is None:
            self._cosine = None
        else:
            self._cosine = min(self._cosine, cosine)
        if _has_classes(wanted):
            same = got.argmax(axis=-1) == wanted.argmax(axis=-1)
            self._argmax_agreement = min(self._argmax_agreement, float(np.mean(same)))


def _place(missed: Array, chosen: Array, got: Array, wanted: Array) -> str:
    """The first value that differs, under the number of its golden row."""
    at = tuple(int(axis[0]) for axis in np.nonzero(missed))
    row, *rest = at
    digits = ".6g" if is_floating(wanted) else ""
    return (
        f"at {[int(chosen[row]), *rest]} is {got[at]:{digits}}, the reference {wanted[at]:{digits}}"
    )


def _cosine(got: Array, wanted: Array) -> float | None:
    with np.errstate(over="ignore", invalid="ignore"):
        norms = float(np.linalg.norm(got) * np.linalg.norm(wanted))
        if not np.isfinite(norms) or norms == 0.0:
            return None
        return float(np.clip(np.dot(got, wanted) / norms, -1.0, 1.0))


def _worst(items: Sequence[OutputErrors]) -> OutputErrors:
    """Of each figure the worst; none where one of them has none."""

    def least(values: list[float | None], pick: Callable[..., float]) -> float | None:
        return None if None in values else pick(values)

    return OutputErrors(
        output=items[0].output,
        gated=items[0].gated,
        largest=least([item.largest for item in items], max),
        p99=least([item.p99 for item in items], max),
        cosine=least([item.cosine for item in items], min),
        argmax_agreement=least([item.argmax_agreement for item in items], min),
        agreement=least([item.agreement for item in items], min),
    )


def _has_classes(array: Array) -> bool:
    return array.ndim > 1 and array.shape[-1] > 1
