"""The robustness pass: every threshold's metric on held-out rows that were disturbed.

Knows: which rows, how many, and what a fall of a metric means. Rules: rows evenly spread over the held-out
ones, always the same ones, disturbed as clients send them and answered by the code that serves; a
disturbance without `drop_max` is reported and decides nothing. Leaves to others: the formulas
(`disturbances`, `metrics`).
"""

import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np

from appliance.errors import RequestError, SpecError, ThresholdMissed
from appliance.manifest import Acceptance, Disturbance, DisturbanceKind, Manifest
from appliance.proof import Disturbed
from appliance.recipe import Recipe
from appliance.tensors import Array, Interface
from compiler.progress import Progress, Silent
from compiler.proving.acceptance import computed, value_text
from compiler.proving.disturbances import LEVEL_MAX, Form, Spread, changed, disturbs, forms, spread
from compiler.proving.encoded import (
    changed_pictures,
    decode_steps,
    spread_of_pictures,
    values_a_row,
)
from compiler.proving.metrics import CLASSIFYING, faults
from compiler.proving.running import engine_outputs
from compiler.rows.held_out import HeldOut
from compiler.rows.truth import Truth
from runtime.servable import Servable

ROWS_MAX = 512  # of a pass
ADVERSARIAL_ROWS_MAX = 64
ADVERSARIAL_STEPS = 8  # random steps a row, the worst of which counts
VALUES_MAX = 1 << 25  # of a pass, all inputs together: larger rows are fewer
_REQUEST_ROWS_MAX = 64
_DEFAULTS = (
    (DisturbanceKind.NOISE, 0.1),
    (DisturbanceKind.BLUR, 1.0),
    (DisturbanceKind.BRIGHTNESS, 0.1),
    (DisturbanceKind.MISSING, 0.1),
    (DisturbanceKind.ADVERSARIAL, 0.05),
)


def check_disturbances(
    disturbances: tuple[Disturbance, ...],
    recipe: Recipe,
    engine: Interface,
    acceptance: tuple[Acceptance, ...],
) -> None:
    """Raise SpecError at a level out of bounds, or a `drop_max` that nothing could be held to."""
    for item in disturbances:
        if not item.level <= LEVEL_MAX[item.kind]:
            raise SpecError(
                f"the level of {item.kind} is {item.level:g}, over {LEVEL_MAX[item.kind]:g}",
                remedy="give a lower level; see docs/spec.md for its meaning",
            )
        if item.drop_max is not None and not (acceptance and _applies(item, recipe, engine)):
            raise SpecError(
                f"drop_max of {item.kind} has nothing to hold: it needs an acceptance threshold "
                f"and an input that {item.kind} changes",
                remedy="leave drop_max out, or name a disturbance that fits the model's inputs",
            )


def chosen_disturbances(manifest: Manifest, *, gated: bool) -> tuple[Disturbance, ...]:
    """Those of the spec that are gated, or those that are only reported: small ones where it names none."""
    if manifest.disturbances or gated:
        return tuple(d for d in manifest.disturbances if (d.drop_max is not None) is gated)
    made = (Disturbance(kind=kind, level=level) for kind, level in _DEFAULTS)
    return tuple(item for item in made if _applies(item, manifest.recipe, manifest.stateless))


def disturbed(
    servable: Servable,
    held_out: HeldOut,
    manifest: Manifest,
    disturbances: tuple[Disturbance, ...],
    progress: Progress,
) -> tuple[Disturbed, ...]:
    """Every threshold's metric under each disturbance; a stage each. Raises EngineError.

    Thresholds on one metric of one output count once, over all rows.
    """
    firsts: dict[tuple[str, str], Acceptance] = {}
    for item in manifest.acceptance:
        firsts.setdefault((item.metric, item.output), item)
    if not firsts:
        return ()
    passes = _Passes(servable, held_out, manifest, tuple(firsts.values()), progress)
    return tuple(found for item in disturbances for found in passes.run(item))


def check_drops(found: Collection[Disturbed]) -> None:
    """Raise ThresholdMissed when a gated disturbance costs a metric more than its `drop_max`."""
    for item in found:
        limit = item.disturbance.drop_max
        if limit is None or (item.value is not None and drop(item) <= limit):
            continue
        told = "cannot be computed" if item.value is None else f"is {value_text(item.value)}"
        raise ThresholdMissed(
            f"{item.threshold.metric} of '{item.threshold.output}' under {item.disturbance.kind} "
            f"{item.disturbance.level:g} {told}, undisturbed {value_text(item.undisturbed)}; it may "
            f"be worse by {limit:g}",
            remedy="train with such rows, or agree on a larger drop_max in the spec",
        )


def drop(item: Disturbed) -> float:
    """By how much the metric is worse than undisturbed; negative when it is better."""
    assert item.value is not None, "the disturbance applies"
    fall = item.undisturbed - item.value
    return fall if item.threshold.metric in CLASSIFYING else -fall


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chosen:
    """The rows of a pass: their inputs' spreads, and the engine's outputs for them as they are."""

    rows: HeldOut
    spreads: dict[str, Spread]
    outputs: dict[str, Array]


class _Passes:
    """All passes of one servable over one set of held-out rows."""

    def __init__(
        self,
        servable: Servable,
        held_out: HeldOut,
        manifest: Manifest,
        thresholds: tuple[Acceptance, ...],
        progress: Progress,
    ) -> None:
        self._servable, self._held_out, self._progress = servable, held_out, progress
        self._thresholds = thresholds
        self._wanted = {item.output for item in thresholds}
        self._forms = forms(manifest.recipe, manifest.stateless)
        self._decode = decode_steps(manifest.recipe, manifest.stateless)
        self._batch = min(manifest.served.batch_max, _REQUEST_ROWS_MAX)
        self._known: dict[int, _Chosen] = {}

    def run(self, item: Disturbance) -> list[Disturbed]:
        """The value of each threshold's metric under `item`."""
        adversarial = item.kind is DisturbanceKind.ADVERSARIAL
        steps = ADVERSARIAL_STEPS if adversarial else 1
        count = self._count(ADVERSARIAL_ROWS_MAX if adversarial else ROWS_MAX, steps)
        self._progress.stage(f"disturbing rows: {item.kind} {item.level:g}", count * steps)
        chosen = self._known.get(count)
        if chosen is None:
            chosen = self._known[count] = self._chosen(count)
        made: list[dict[str, Array]] = []
        if any(disturbs(item.kind, form) for form in self._forms.values()):
            rng = np.random.default_rng(zlib.crc32(item.kind.encode()))
            try:
                made = [self._outputs(chosen, item, rng) for _ in range(steps)]
            except RequestError:
                made = []  # such rows are refused, so that there is nothing to be right or wrong
        return [self._disturbed(item, threshold, chosen, made) for threshold in self._thresholds]

    def _disturbed(
        self,
        item: Disturbance,
        threshold: Acceptance,
        chosen: _Chosen,
        made: list[dict[str, Array]],
    ) -> Disturbed:
        truth, worst = chosen.rows.truth, chosen.outputs[threshold.output]
        if item.kind is DisturbanceKind.ADVERSARIAL:
            for outputs in made:
                worst = _worse(threshold, worst, outputs[threshold.output], truth)
        elif made:
            worst = made[0][threshold.output]
        return Disturbed(
            disturbance=item,
            threshold=threshold,
            value=computed(threshold, {threshold.output: worst}, truth) if made else None,
            undisturbed=computed(threshold, chosen.outputs, truth),
            rows=chosen.rows.rows,
        )

    def _count(self, rows_max: int, steps: int) -> int:
        """How many rows are looked at; `steps` times each."""
        a_row = sum(
            values_a_row(array, self._decode[name]) if name in self._decode else array[:1].size
            for name, array in self._held_out.inputs.items()
        )
        return min(self._held_out.rows, rows_max, max(VALUES_MAX // max(a_row * steps, 1), 1))

    def _chosen(self, count: int) -> _Chosen:
        rows = self._held_out.part(np.arange(count) * self._held_out.rows // count)
        spreads = {
            name: self._spread(name, array)
            for name, array in rows.inputs.items()
            if self._forms[name] not in (Form.TEXTS, Form.OTHER)
        }
        requests = rows.requests(self._batch)
        outputs = engine_outputs(self._servable, requests, self._wanted, Silent())
        return _Chosen(rows=rows, spreads=spreads, outputs=outputs)

    def _outputs(
        self, chosen: _Chosen, item: Disturbance, rng: np.random.Generator
    ) -> dict[str, Array]:
        requests = self._requests(chosen, item, rng)
        return engine_outputs(self._servable, requests, self._wanted, self._progress)

    def _requests(
        self, chosen: _Chosen, item: Disturbance, rng: np.random.Generator
    ) -> Iterator[dict[str, Array]]:
        """The rows as requests, each disturbed when its turn comes."""
        step = self._batch or 1
        for start in range(0, chosen.rows.rows, step):
            request = {}
            for name, array in chosen.rows.inputs.items():
                rows = array[start : start + step]
                found = chosen.spreads.get(name)
                if disturbs(item.kind, self._forms[name]):
                    rows = self._changed(name, rows, item, found, rng, first=start)
                request[name] = rows
            yield request if self._batch else {n: array[0, ...] for n, array in request.items()}

    def _changed(
        self,
        name: str,
        rows: Array,
        item: Disturbance,
        found: Spread | None,
        rng: np.random.Generator,
        *,
        first: int,
    ) -> Array:
        if name not in self._decode:
            return changed(rows, item, found, rng, first=first)
        assert found is not None, "an encoded picture has a spread"
        return changed_pictures(rows, self._decode[name], item, found, rng, first=first)

    def _spread(self, name: str, rows: Array) -> Spread:
        if name in self._decode:
            return spread_of_pictures(rows, self._decode[name])
        return spread(rows, self._forms[name])


def _worse(threshold: Acceptance, one: Array, other: Array, truth: Truth) -> Array:
    """Of each row the output that is more wrong."""
    assert truth.labels is not None, "checked before"
    metric, labels = threshold.metric, truth.labels
    chosen = faults(metric, other, labels) > faults(metric, one, labels)
    return np.where(chosen.reshape(-1, *[1] * (one.ndim - 1)), other, one)


def _applies(item: Disturbance, recipe: Recipe, engine: Interface) -> bool:
    return any(disturbs(item.kind, form) for form in forms(recipe, engine).values())
