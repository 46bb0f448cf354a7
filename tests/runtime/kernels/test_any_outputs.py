"""Any after-steps over any outputs are refused when a model is packed, or run and give what is served.

As `test_any_recipe`, for the steps behind the engine.
"""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from appliance.errors import EngineError, RecipeError
from appliance.fitting import served_interface
from appliance.recipe import (
    AnchorBoxes,
    AnchorGrid,
    ArgMax,
    BoxForm,
    Drop,
    InputRecipe,
    Labels,
    Recipe,
    RescaleBoxes,
    Resize,
    Sigmoid,
    Softmax,
    SuppressBoxes,
    Threshold,
    TopK,
    YoloBoxes,
)
from appliance.tensors import Array, DataType, Interface, TensorSpec
from runtime.kernels.chain import Chain

pytestmark = pytest.mark.usefixtures("plain_kernels")

MANY = settings(max_examples=80, suppress_health_check=[HealthCheck.too_slow], print_blob=False)
STEPS_MOST = 6

sides = st.sampled_from([1, 2, 3, 5, 8])
lengths = st.sampled_from([-1, 0, 1, 2, 3, 4, 7])
floats = st.sampled_from([0.0, 1.0, -2.5, 0.1, 1e-44, 3e38, -3e38])
datatypes = st.sampled_from([*DataType])


def chosen(*values: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from(values)


outputs_read = st.sampled_from("pqst")
outputs_made = st.sampled_from("stuvwxyz")
maybe = st.none() | outputs_made


def made(kind: type[Any], *outputs: str, **parameters: Any) -> st.SearchStrategy[Any]:
    """Steps of `kind` whose outputs, named by the keys `outputs`, do not share a name."""
    return st.permutations("stuvwxyz").flatmap(
        lambda unlike: st.builds(
            kind, **parameters, **dict(zip(outputs, map(st.just, unlike), strict=False))
        )
    )


score_steps = st.one_of(
    st.builds(Softmax, tensor=outputs_read, output=outputs_made),
    st.builds(Sigmoid, tensor=outputs_read, output=outputs_made),
    st.builds(ArgMax, tensor=outputs_read, output=outputs_made, labels=maybe),
    st.builds(TopK, tensor=outputs_read, k=sides, output=outputs_made, scores=maybe, labels=maybe),
    st.builds(Threshold, tensor=outputs_read, at=floats, output=outputs_made, labels=maybe),
    st.builds(Labels, tensor=outputs_read, output=outputs_made),
    st.builds(Drop, tensors=outputs_read.map(lambda name: (name,))),
)
forms = chosen("xyxy", "cxcywh", "xywh", "yxyx")
grids = st.builds(
    AnchorGrid,
    rows=chosen(1, 2),
    columns=chosen(1, 2),
    stride=st.just(2.0),
    sizes=st.just(((1.0, 2.0),)),
)
box_steps = st.one_of(
    made(
        YoloBoxes,
        "boxes",
        "scores",
        tensor=outputs_read,
        order=chosen("values_first", "anchors_first"),
        objectness=st.booleans(),
        form=forms,
    ),
    st.builds(BoxForm, tensor=outputs_read, form=forms, output=outputs_made),
    st.builds(
        AnchorBoxes,
        tensor=outputs_read,
        grids=st.lists(grids, min_size=1, max_size=2).map(tuple),
        output=outputs_made,
    ),
    made(
        SuppressBoxes,
        "output",
        "output_scores",
        "output_classes",
        "output_count",
        boxes=outputs_read,
        scores=outputs_read,
        score_min=chosen(0.0, 0.5),
        iou_max=chosen(0.0, 0.5),
        boxes_max=chosen(1, 3),
        candidates_max=chosen(2, 4),
        every_class=st.booleans(),
        agnostic=st.booleans(),
        background=chosen(None, 0, 1),
    ),
    st.builds(RescaleBoxes, tensor=outputs_read, image=chosen("x", "x", "y"), output=outputs_made),
)
shapes_given = st.one_of(
    st.lists(lengths, max_size=3).map(tuple),
    chosen((3,), (2, 4), (-1, 4), (2, 2), (6, 2), (1, 2, 4), (-1, 2), (-1,), (2, -1)),
)
IMAGE = InputRecipe(
    feeds="x",
    raw=TensorSpec(name="r", datatype=DataType.UINT8, shape=(-1, -1, 1)),
    steps=(Resize(height=2, width=2),),
)
PREPARED = TensorSpec(name="x", datatype=DataType.UINT8, shape=(2, 2, 1))


@st.composite
def models(draw: st.DrawFn, steps: st.SearchStrategy[Any]) -> tuple[Recipe, Interface]:
    """A recipe of after-steps, most of which fit, and the engine whose outputs they read."""
    given = tuple(
        TensorSpec(
            name=name,
            datatype=draw(chosen(DataType.FP32) | datatypes),
            shape=draw(shapes_given),
        )
        for name in ("p", "q")
    )
    engine = Interface(inputs=(PREPARED,), outputs=given, batch_max=draw(chosen(0, 3)))
    labels = ("one", "two", "three")[: draw(st.integers(0, 3))]
    recipe = Recipe(inputs=(IMAGE,), labels=labels)
    for each in draw(st.lists(steps, max_size=STEPS_MOST)):
        longer = Recipe(inputs=(IMAGE,), labels=labels, after=(*recipe.after, each))
        try:
            served_interface(longer, engine)
        except RecipeError:
            if draw(st.integers(0, 9)):
                continue
            return longer, engine
        recipe = longer
    return recipe, engine


@st.composite
def arrays(draw: st.DrawFn, spec: TensorSpec, lead: tuple[int, ...]) -> Array:
    """An output of `spec`; each has its own open lengths, which a model's outputs may have."""
    free = draw(st.sampled_from([0, 1, 3]))
    shape = (*lead, *(free if length == -1 else length for length in spec.shape))
    if spec.datatype is DataType.BYTES:
        return np.full(shape, b"text", np.object_)
    values = np.arange(np.prod(shape, dtype=np.int64)) % draw(st.integers(1, 7))
    array = values.reshape(shape).astype(spec.datatype.numpy)
    if array.dtype.kind == "f" and array.size:
        array.reshape(-1)[0] = draw(st.sampled_from([0.0, np.nan, np.inf, -1.5, 3.0]))
    return array


@pytest.mark.parametrize(
    "steps", [score_steps, box_steps, score_steps | box_steps], ids=["scores", "boxes", "any"]
)
@MANY
@given(data=st.data())
def test_what_goes_behind_the_engine(steps: st.SearchStrategy[Any], data: st.DataObject) -> None:
    recipe, engine = data.draw(models(steps))
    try:
        served = served_interface(recipe, engine)
    except RecipeError:
        return
    chain = Chain(recipe, engine=engine)
    chain.warm()
    lead = (data.draw(st.integers(1, 3)),) if engine.batch_max else ()
    outputs = {spec.name: data.draw(arrays(spec, lead)) for spec in engine.outputs}
    placed = {"x": np.tile([2.0, 1.0, 0.5, -1.0, 9.0, 7.0], (lead[0] if lead else 1, 1))}
    try:
        answers = chain.after(outputs, placed)
    except EngineError:
        return
    assert answers.keys() == {spec.name for spec in served.outputs}
    for spec in served.outputs:
        answer = answers[spec.name]
        assert answer.dtype == spec.datatype.numpy, spec
        assert answer.shape[: len(lead)] == lead, spec
        assert spec.fits(answer.shape[len(lead) :]), spec
