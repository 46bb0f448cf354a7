"""The robustness pass: what is measured, what is reported, what is gated."""

from types import SimpleNamespace

import numpy as np
import pytest

from appliance.errors import RequestError, SpecError, ThresholdMissed
from appliance.manifest import Acceptance, Disturbance, DisturbanceKind, Metric
from appliance.recipe import Cast, Impute, InputRecipe, Layout, Recipe
from appliance.tensors import DataType, Interface, TensorSpec
from compiler.progress import Silent
from compiler.proving import robustness
from compiler.proving.robustness import (
    check_disturbances,
    check_drops,
    chosen_disturbances,
    disturbed,
)
from compiler.rows.held_out import HeldOut
from compiler.rows.truth import Truth

KINDS = DisturbanceKind
ACCURACY = Acceptance(metric=Metric.ACCURACY, output="y", minimum=0.1)
ERROR = Acceptance(metric=Metric.MEAN_ABSOLUTE_ERROR, output="y", maximum=9.0)


class Engine:
    """Scores of two classes: the sum of a table's columns, and its opposite."""

    def __init__(self, batch_max: int = 8) -> None:
        self.interface = Interface(inputs=(), outputs=(), batch_max=batch_max)
        self.rows: list[int] = []

    def answered(self, inputs):
        x = inputs["x"] if self.interface.batch_max else inputs["x"][None]
        self.rows.append(len(x))
        total = np.nan_to_num(x).sum(axis=1)
        y = np.stack([-total, total], axis=1)
        return {"y": y if self.interface.batch_max else y[0]}, {}


class Strict(Engine):
    """Refuses missing values."""

    def answered(self, inputs):
        if np.isnan(inputs["x"]).any():
            raise RequestError("a value is missing", remedy="send it")
        return super().answered(inputs)


def manifest(acceptance=(ACCURACY,), disturbances=(), batch_max=8, columns=("a", "b")):
    spec = TensorSpec(name="x", datatype=DataType.FP32, shape=(2,))
    table = InputRecipe(feeds="x", raw=spec, columns=columns, steps=(Impute(values={}),))
    interface = Interface(inputs=(spec,), outputs=(), batch_max=batch_max)
    return SimpleNamespace(
        acceptance=acceptance,
        disturbances=disturbances,
        recipe=Recipe(inputs=(table,) if columns else ()),
        stateless=interface,
        served=interface,
    )


def held_out(rows: int = 40) -> HeldOut:
    x = np.random.default_rng(2).normal(size=(rows, 2)).astype(np.float32)
    labels = (x.sum(axis=1) > 0).astype(np.int64)
    return HeldOut(inputs={"x": x}, truth=Truth(labels=labels, segments={"s": labels}))


def one(kind, level, engine=None, told=None, rows=40, **changes):
    item = Disturbance(kind=kind, level=level, **changes)
    told = told or manifest()
    return disturbed(engine or Engine(), held_out(rows), told, (item,), Silent())


@pytest.mark.parametrize("batch_max", [0, 8])
def test_the_metric_falls_with_the_noise(batch_max):
    told = manifest(batch_max=batch_max)
    values = [one(KINDS.NOISE, level, Engine(batch_max), told)[0] for level in (1e-6, 0.5, 5.0)]
    assert values[0].value == values[0].undisturbed == 1.0
    assert values[0].value >= values[1].value >= values[2].value
    assert values[2].value < 0.9
    assert values[0].rows == 40


def test_the_same_rows_give_the_same_values():
    assert one(KINDS.NOISE, 0.7) == one(KINDS.NOISE, 0.7)
    assert one(KINDS.ADVERSARIAL, 0.3) == one(KINDS.ADVERSARIAL, 0.3)


def test_the_worst_of_some_small_steps_is_worse_than_noise_of_that_size():
    (noise,), (adversarial,) = one(KINDS.NOISE, 0.3), one(KINDS.ADVERSARIAL, 0.3)
    assert adversarial.value < noise.value <= 1.0


def test_rows_are_few_and_evenly_spread(monkeypatch):
    monkeypatch.setattr(robustness, "ROWS_MAX", 10)
    (found,) = one(KINDS.NOISE, 0.1, rows=1000)
    assert found.rows == 10
    monkeypatch.setattr(robustness, "VALUES_MAX", 8)
    assert one(KINDS.NOISE, 0.1, rows=1000)[0].rows == 4
    assert one(KINDS.ADVERSARIAL, 0.1, rows=1000)[0].rows == 1


def test_each_metric_of_an_output_counts_once_whatever_the_segment():
    by_segment = Acceptance(metric=Metric.ACCURACY, output="y", minimum=0.1, segment="s")
    f1 = Acceptance(metric=Metric.MACRO_F1, output="y", minimum=0.1)
    found = one(KINDS.NOISE, 0.1, told=manifest((by_segment, ACCURACY, f1)))
    assert [item.threshold.metric for item in found] == [Metric.ACCURACY, Metric.MACRO_F1]
    assert one(KINDS.NOISE, 0.1, told=manifest(())) == ()


@pytest.mark.parametrize(("kind", "engine"), [(KINDS.BLUR, Engine()), (KINDS.MISSING, Strict())])
def test_what_does_not_apply_or_is_refused_is_told_as_nothing(kind, engine):
    (found,) = one(kind, 1.0, engine)
    assert found.value is None
    assert found.undisturbed == 1.0


def test_a_fall_beyond_what_was_agreed_is_refused():
    check_drops(one(KINDS.NOISE, 5.0))
    check_drops(one(KINDS.NOISE, 5.0, drop_max=1.0))
    with pytest.raises(ThresholdMissed, match=r"accuracy of 'y' under noise 5 is 0.*by 0.01"):
        check_drops(one(KINDS.NOISE, 5.0, drop_max=0.01))
    with pytest.raises(ThresholdMissed, match="cannot be computed"):
        check_drops(one(KINDS.BLUR, 1.0, drop_max=1.0))


def test_an_error_falls_by_growing():
    told = manifest((ERROR,))
    rows = held_out()
    truth = Truth(labels=np.stack([-rows.inputs["x"].sum(1), rows.inputs["x"].sum(1)], 1) * 1.0)
    item = Disturbance(kind=KINDS.NOISE, level=1.0, drop_max=0.1)
    known = HeldOut(inputs=rows.inputs, truth=truth)
    found = disturbed(Engine(), known, told, (item,), Silent())
    assert found[0].value > found[0].undisturbed == pytest.approx(0.0, abs=1e-6)
    with pytest.raises(ThresholdMissed, match="mean_absolute_error"):
        check_drops(found)


def test_gated_and_reported_ones_are_told_apart():
    gated = Disturbance(kind=KINDS.NOISE, level=0.1, drop_max=0.2)
    free = Disturbance(kind=KINDS.MISSING, level=0.1)
    told = manifest(disturbances=(gated, free))
    assert chosen_disturbances(told, gated=True) == (gated,)
    assert chosen_disturbances(told, gated=False) == (free,)


@pytest.mark.parametrize(
    ("columns", "wanted"),
    [(("a", "b"), ["noise", "missing", "adversarial"]), ((), ["noise", "adversarial"])],
)
def test_a_small_set_is_reported_where_the_spec_names_none(columns, wanted):
    found = chosen_disturbances(manifest(columns=columns), gated=False)
    assert [item.kind for item in found] == wanted
    assert all(item.drop_max is None for item in found)
    assert chosen_disturbances(manifest(columns=columns), gated=True) == ()


@pytest.mark.parametrize(
    ("item", "acceptance", "told"),
    [
        (Disturbance(kind=KINDS.MISSING, level=1.5), (ACCURACY,), "over 1"),
        (Disturbance(kind=KINDS.NOISE, level=float("nan")), (ACCURACY,), "is nan"),
        (Disturbance(kind=KINDS.BLUR, level=1.0, drop_max=0.1), (ACCURACY,), "nothing to hold"),
        (Disturbance(kind=KINDS.NOISE, level=1.0, drop_max=0.1), (), "nothing to hold"),
    ],
)
def test_a_disturbance_that_could_decide_nothing_is_refused(item, acceptance, told):
    of = manifest(acceptance)
    with pytest.raises(SpecError) as refused:
        check_disturbances((item,), of.recipe, of.stateless, of.acceptance)
    assert told in str(refused.value)
    allowed = Disturbance(kind=KINDS.BLUR, level=1.0)
    check_disturbances((allowed,), of.recipe, of.stateless, of.acceptance)


def test_images_are_blurred_and_shifted():
    spec = TensorSpec(name="x", datatype=DataType.UINT8, shape=(4, 4, 1))
    of = manifest()
    of.recipe = Recipe(
        inputs=(InputRecipe(feeds="x", raw=spec, steps=(Cast(datatype="FP32"), Layout())),)
    )
    found = chosen_disturbances(of, gated=False)
    assert [item.kind for item in found] == ["noise", "blur", "brightness", "adversarial"]
