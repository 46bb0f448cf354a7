"""An engine's outputs against the reference's at every number of rows."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest

from appliance.errors import GoldenMissed
from appliance.golden import Golden
from appliance.manifest import Precision, Tolerance, Tolerances
from appliance.recipe import Labels, Recipe, Sigmoid, Softmax, TopK
from appliance.tensors import DataType, Interface, TensorSpec
from compiler.progress import Silent
from compiler.proving.comparison import compare, continuous, sizes

LABELS = np.array([b"a", b"b", b"c"], np.object_)


def softmax(y):
    with np.errstate(invalid="ignore"):
        powers = np.exp(y - y.max(axis=-1, keepdims=True))
    return (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)


def after(y):
    best = y.argmax(axis=-1)[..., None]
    return {"share": softmax(y), "best": best, "name": LABELS[best]}


@dataclass
class Engine:
    """Answers y = x, an integer n, and after-steps; `wrong` changes y for a call of so many rows."""

    batch_max: int = 8
    wrong: Callable = lambda y, rows: y
    integers: Callable = lambda n, rows: n

    def answered(self, inputs):
        x = inputs["x"]
        rows = len(x) if self.batch_max else 1
        y = np.float32(self.wrong(x.copy(), rows))
        n = self.integers(np.int64(x[..., :1] > 0), rows)
        return {"y": y, "n": n}, {"y": y, "n": n, **after(y)}

    def completed(self, inputs, outputs):
        return {**outputs, **after(outputs["y"])}


def manifest(batch_max: int = 8, **tolerances: Tolerance):
    spec = TensorSpec(name="y", datatype=DataType.FP32, shape=(3,))
    engine = Interface(inputs=(), outputs=(spec,), batch_max=batch_max)
    recipe = Recipe(after=(Softmax(tensor="y", output="share"),))
    return SimpleNamespace(
        tolerances=Tolerances(**tolerances), served=engine, stateless=engine, recipe=recipe
    )


def golden(rows: int = 5) -> Golden:
    x = np.random.default_rng(3).normal(size=(rows, 3)).astype(np.float32)
    return Golden(inputs={"x": x}, outputs={"y": x.copy(), "n": np.int64(x[:, :1] > 0)})


def run(engine: Engine, precision: Precision = Precision.FP32, rows: int = 5, **tolerances):
    told = manifest(engine.batch_max, **tolerances)
    return compare(engine, golden(rows), told, precision, Silent())


@pytest.mark.parametrize(
    ("batch_max", "wanted"),
    [
        (0, [1]),
        (1, [1]),
        (2, [1, 2]),
        (4, [1, 2, 3, 4]),
        (8, [1, 2, 3, 4, 5, 7, 8]),
        (24, [1, 2, 3, 4, 5, 8, 16, 23, 24]),
    ],
)
def test_sizes_are_those_that_are_warmed_and_odd_ones(batch_max, wanted):
    assert sizes(batch_max) == wanted


def test_an_equal_engine_has_no_errors():
    compared = run(Engine())
    assert compared.error_max == compared.error_p99 == 0.0
    assert [item.rows for item in compared.buckets] == [1, 2, 3, 4, 5, 7, 8]
    by_name = {item.output: item for item in compared.outputs}
    assert set(by_name) == {"y", "n", "share", "best", "name"}
    assert by_name["y"].cosine == pytest.approx(1.0)
    assert by_name["y"].argmax_agreement == by_name["best"].agreement == 1.0
    assert {name for name, item in by_name.items() if item.gated} == {"y", "n", "share"}


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 7, 8])
def test_an_engine_that_is_wrong_at_one_size_only_is_found(rows):
    def wrong(y, count):
        y[-1, 2] += 0.5 * (count == rows)
        return y

    with pytest.raises(GoldenMissed) as missed:
        run(Engine(wrong=wrong))
    calls = "1 row in a call" if rows == 1 else f"{rows} rows in a call"
    assert f"the reference {golden().outputs['y'][(rows - 1) % 5, 2]:.6g} with {calls}" in str(
        missed.value
    )
    assert "its largest error is 0.5" in str(missed.value)


def test_an_error_within_the_tolerance_is_counted_at_its_size():
    def wrong(y, count):
        y[0, 0] += 0.25 * (count == 4)
        return y

    compared = run(Engine(wrong=wrong), fp32=Tolerance(absolute=0.3))
    found = {item.rows: item.largest for item in compared.buckets}
    assert found[4] == pytest.approx(0.25)
    assert {rows for rows, largest in found.items() if largest} == {4}
    assert compared.error_max == pytest.approx(0.25)


def test_the_tolerance_is_that_of_the_precision_and_knows_the_range():
    def wrong(y, count):
        return y + np.float32(0.05)

    scale = float(np.ptp(golden().outputs["y"]))
    fitting = Tolerance(absolute=0.0, relative=0.0, of_range=0.051 / scale)
    assert run(Engine(wrong=wrong), Precision.BF16, bf16=fitting).error_max > 0.04
    with pytest.raises(GoldenMissed) as missed:
        run(Engine(wrong=wrong), Precision.INT8, bf16=fitting, int8=Tolerance(of_range=0.001))
    assert "[tolerance.int8]" in missed.value.remedy


def test_what_hangs_on_near_ties_is_reported_and_not_gated():
    def wrong(y, count):
        y[0] = y[0, ::-1]
        return y

    compared = run(Engine(wrong=wrong), fp32=Tolerance(absolute=99.0))
    by_name = {item.output: item for item in compared.outputs}
    assert by_name["best"].agreement == by_name["name"].agreement < 1.0
    assert by_name["best"].largest is None
    assert by_name["y"].argmax_agreement < 1.0


def test_an_engines_own_integers_are_exact_in_fp32_only():
    engine = Engine(integers=lambda n, rows: n + (rows == 3))
    with pytest.raises(GoldenMissed, match=r"output 'n' at .* with 3 rows in a call"):
        run(engine)
    by_name = {item.output: item for item in run(engine, Precision.INT8).outputs}
    assert (by_name["n"].gated, by_name["n"].agreement) == (False, 0.0)


def test_without_a_batch_axis_each_row_is_a_call():
    compared = run(Engine(batch_max=0))
    assert [item.rows for item in compared.buckets] == [1]
    assert compared.outputs[0].argmax_agreement == 1.0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_not_finite_are_missed_and_stay_countable(value):
    def wrong(y, count):
        y[0, 1] = value
        return y

    with pytest.raises(GoldenMissed, match=f"is {value}, the reference"):
        run(Engine(wrong=wrong))


def test_another_shape_is_told():
    with pytest.raises(GoldenMissed, match=r"has shape \[5, 2\], the reference \[5, 3\]"):
        run(Engine(wrong=lambda y, rows: y[:, :2]))


def test_only_what_selects_nothing_is_continuous():
    told = manifest()
    told.recipe = Recipe(
        after=(
            Softmax(tensor="y", output="a"),
            Sigmoid(tensor="a", output="b"),
            TopK(tensor="a", k=2, output="c", scores="d"),
            Softmax(tensor="d", output="e"),
            Labels(tensor="c", output="f"),
        )
    )
    assert continuous(told) == {"a", "b"}
