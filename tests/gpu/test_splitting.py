"""Which parts of a recipe run on the device, and that both halves together make what the CPU alone makes."""

from typing import Any

import numpy as np
import pytest

from appliance.fitting import sent_specs
from appliance.fitting.outputs import outputs_after
from appliance.layout import ImageValues, OutputValues, ScoreValues, TableValues, VectorLayout
from appliance.recipe import (
    Accepts,
    ArgMax,
    Cast,
    Decode,
    Drop,
    InputRecipe,
    Labels,
    Layout,
    Recipe,
    RescaleBoxes,
    Softmax,
    Standardise,
    SuppressBoxes,
    Threshold,
    TopK,
    Transpose,
    YoloBoxes,
)
from appliance.tensors import DataType, Interface, TensorSpec
from runtime.kernels.after import maker
from runtime.kernels.chain import Chain
from runtime.kernels.cuda.boxes import placed_pairs
from runtime.kernels.cuda.splitting import Split, split
from tests.gpu.threads import run_part

NOTHING = VectorLayout(batch_axis=True, parts=())
KEPT = {"output": "o", "output_scores": "os", "output_classes": "oc", "output_count": "on"}
PCA = np.zeros(64, np.float32).tobytes()


def spec(name: str, *shape: int, datatype: DataType = DataType.FP32) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=shape)


def engine(*outputs: TensorSpec, inputs: tuple[TensorSpec, ...] = ()) -> Interface:
    return Interface(inputs=inputs or (spec("x", 4),), outputs=outputs, batch_max=4)


def reasons(parts: Split) -> dict[str, str]:
    return dict(parts.left)


def divided(recipe: Recipe, of: Interface, outputs: dict[str, Any], placed: dict[str, Any]) -> Any:
    """What device and CPU make together of an engine's outputs."""
    parts, tensors = split(recipe, of, NOTHING), dict(outputs)
    for name, array in placed.items():
        tensors[f"placed:{name}"] = placed_pairs(array)
    for part in parts.after:
        tensors |= run_part(part, tensors)
    known = list(of.outputs)
    for step in recipe.after:
        known += [made for made in outputs_after(step, known, recipe) if made not in known]
    answers: Any = {name: array for name, array in tensors.items() if ":" not in name}
    for step in parts.rest:
        answers = maker(step, known, recipe.labels).run(answers, placed)
    return answers


def test_scores_and_texts_together_are_the_cpus():
    recipe = Recipe(
        after=(
            Softmax(tensor="logits", output="p"),
            TopK(tensor="p", k=2, output="best", scores="values", labels="names"),
            ArgMax(tensor="logits", output="class", labels="name"),
            Threshold(tensor="p", at=0.5, output="sure", labels="sure_names"),
            Labels(tensor="best", output="again"),
            Drop(tensors=("logits",)),
        ),
        labels=("a", "b", "c"),
    )
    of = engine(spec("logits", 3))
    parts = split(recipe, of, NOTHING)
    assert [part.makes for part in parts.after] == [("p",), ("best", "values"), ("class",)]
    assert reasons(parts) == {
        "step 'threshold'": "it makes texts",
        "step 'labels'": "it makes texts",
    }
    outputs = {"logits": np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)}
    wanted = Chain(recipe, engine=of).after(outputs)
    got = divided(recipe, of, outputs, {})
    assert set(got) == set(wanted)
    for name, array in wanted.items():
        if name in {"p", "values"}:
            assert np.allclose(got[name], array, rtol=1e-6)
        else:
            assert np.array_equal(got[name], array), name


def test_a_detector_together_is_the_cpus():
    recipe = Recipe(
        inputs=(InputRecipe(feeds="x", raw=spec("image", -1, -1, 3), steps=(Layout(),)),),
        after=(
            YoloBoxes(tensor="head", boxes="b", scores="s"),
            SuppressBoxes(boxes="b", scores="s", score_min=0.2, iou_max=0.4, boxes_max=5, **KEPT),
            RescaleBoxes(tensor="o", image="x", output="r"),
            Drop(tensors=("head", "b", "s", "o")),
        ),
    )
    of = engine(spec("head", 6, 9), inputs=(spec("x", 3, -1, -1),))
    parts = split(recipe, of, NOTHING)
    assert len(parts.after) == 3
    assert parts.rest == recipe.after[-1:]
    assert parts.left == ()
    assert [part.reads for part in parts.before["x"]] == [("sent:image",)]
    rng = np.random.default_rng(0)
    outputs = {"head": rng.random((2, 6, 9)).astype(np.float32)}
    placed = {"x": np.array([[2.0, -3.0, 0.5, 1.0, 30, 20]] * 2)}
    wanted = Chain(recipe, engine=of).after(outputs, placed)
    got = divided(recipe, of, outputs, placed)
    assert set(got) == set(wanted)
    assert all(np.allclose(got[name], array, rtol=1e-6) for name, array in wanted.items())


def test_steps_that_the_cpu_keeps_say_why():
    recipe = Recipe(
        after=(
            TopK(tensor="wide", k=40, output="t"),
            Softmax(tensor="double", output="d"),
            ArgMax(tensor="d", output="e"),
            SuppressBoxes(
                boxes="boxes",
                scores="wide_scores",
                score_min=0.1,
                iou_max=0.5,
                candidates_max=5000,
                **KEPT,
            ),
            Drop(tensors=("wide",)),
            Softmax(tensor="double", output="wide"),
        )
    )
    of = engine(
        spec("wide", 50),
        spec("double", 3, datatype=DataType.FP64),
        spec("boxes", -1, 4),
        spec("wide_scores", -1, 2),
    )
    parts = split(recipe, of, NOTHING)
    assert parts.after == ()
    assert parts.rest == recipe.after
    assert [left.why for left in parts.left] == [
        "k is 40, the device finds 32",
        "it reads 'double', which is FP64",
        "it reads 'd', which the CPU makes",
        "it ranks up to 5000 candidates, the device 4096",
        "it reads 'double', which is FP64",
    ]


def test_a_name_that_was_dropped_is_not_made_again_on_the_device():
    recipe = Recipe(
        after=(
            Softmax(tensor="a", output="p"),
            Drop(tensors=("b",)),
            Softmax(tensor="a", output="b"),
            ArgMax(tensor="b", output="best"),
        )
    )
    parts = split(recipe, engine(spec("a", 3), spec("b", 3)), NOTHING)
    assert [part.makes for part in parts.after] == [("p",)]
    assert [left.why for left in parts.left] == [
        "a tensor of this name was dropped before",
        "it reads 'b', which the CPU makes",
    ]


@pytest.mark.parametrize(
    ("item", "why"),
    [
        (
            InputRecipe(
                feeds="x",
                raw=spec("f", 1, datatype=DataType.BYTES),
                steps=(Decode(), Cast(), Layout()),
            ),
            "files are decoded by the CPU, to pictures of unlike sizes",
        ),
        (
            InputRecipe(feeds="x", raw=spec("s", -1), steps=(Transpose(),)),
            "signals have no kernels on the device",
        ),
        (
            InputRecipe(
                feeds="x",
                raw=spec("t", 2),
                columns=("a", "b"),
                steps=(Standardise(columns=("a",), mean=(0.0,), std=(1.0,)),),
            ),
            "tables have no kernels on the device",
        ),
        (
            InputRecipe(feeds="x", raw=spec("d", 2, datatype=DataType.FP64), steps=(Cast(),)),
            "FP64 is cast to FP32",
        ),
    ],
)
def test_inputs_that_the_cpu_prepares(item, why):
    made = spec("x", -1) if "signals" in why else spec("x", 2)
    if "files" in why:
        made = spec("x", 3, -1, -1)
    parts = split(Recipe(inputs=(item,)), engine(spec("y", 2), inputs=(made,)), NOTHING)
    assert parts.before == {}
    assert [left.why for left in parts.left] == [why]


def test_what_is_cast_is_sent_as_it_is():
    item = InputRecipe(feeds="x", raw=spec("raw", 2, datatype=DataType.UINT8), steps=(Cast(),))
    of = engine(spec("y", 2), inputs=(spec("x", 2), spec("z", 3)))
    parts = split(Recipe(inputs=(item,)), of, NOTHING)
    (part,) = parts.before["x"]
    assert part.reads == ("sent:raw",)
    assert set(parts.before) == {"x"}
    sent = np.array([[1, 255]], np.uint8)
    assert run_part(part, {"sent:raw": sent})["x"].tolist() == [[1.0, 255.0]]
    assert [each.name for each in sent_specs(item, of.inputs[0])] == ["raw"]


def test_prepared_inputs_are_nobodys():
    item = InputRecipe(feeds="x", raw=spec("raw", 2), steps=(Cast(),), accepts=Accepts.PREPARED)
    parts = split(Recipe(inputs=(item,)), engine(spec("y", 2), inputs=(spec("x", 2),)), NOTHING)
    assert parts.before == {}
    assert parts.left == ()


def test_the_vector_is_made_where_its_tensors_are():
    of = engine(
        spec("logits", 3),
        spec("more", 2),
        spec("odd", 2, datatype=DataType.FP64),
        inputs=(spec("image", 1, 8, 8), spec("table", 2)),
    )
    layout = VectorLayout(
        batch_axis=True,
        parts=(
            ImageValues(input="image", order="CHW", mean=PCA, components=b""),
            TableValues(input="table", columns=("a", "b")),
            ScoreValues(output="logits", logits=True, classes=3),
            OutputValues(output="more", columns=2),
            OutputValues(output="odd", columns=1),
        ),
    )
    parts = split(Recipe(after=(Drop(tensors=("more",)),)), of, layout)
    assert [(each.at, each.width) for each in parts.vector] == [(0, 5), (7, 6), (13, 2)]
    assert [each.part.makes for each in parts.vector] == [
        ("vector:0",),
        ("vector:7",),
        ("vector:13",),
    ]
    assert [at for at, _ in parts.vector_rest] == [5, 15]
    assert reasons(parts) == {
        "drift values of 'table'": "the CPU prepares it",
        "drift values of 'odd'": "it is FP64",
    }
    assert len(parts.kernels()) == 4
    served = split(Recipe(), of, layout)
    assert reasons(served)["drift values of 'more'"] == "the CPU gets it anyway"
