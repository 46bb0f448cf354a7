"""A recipe as a whole: what is written where, batched and unbatched, several inputs."""

import numpy as np
import pytest

from appliance.errors import RecipeError
from appliance.recipe import (
    Accepts,
    Cast,
    Impute,
    InputRecipe,
    Layout,
    Normalise,
    Recipe,
    RescaleBoxes,
    Resize,
    Select,
    Softmax,
    TopK,
)
from appliance.tensors import Array, DataType, Interface, TensorSpec
from runtime.kernels.chain import Chain


def tensor(name: str, datatype: DataType, *shape: int) -> TensorSpec:
    return TensorSpec(name=name, datatype=datatype, shape=shape)


IMAGE = InputRecipe(
    feeds="pixels",
    raw=tensor("photo", DataType.UINT8, -1, -1, 1),
    steps=(Cast(), Resize(height=2, width=2), Normalise(mean=(1.0,), std=(2.0,)), Layout()),
)
PATIENT = InputRecipe(
    feeds="features",
    raw=tensor("patient", DataType.FP64, 2),
    columns=("age", "weight"),
    steps=(Cast(), Impute(values={"weight": 70.0}), Select(columns=("weight", "age"))),
)
RECIPE = Recipe(
    inputs=(PATIENT, IMAGE),
    after=(
        Softmax(tensor="logits", output="probabilities"),
        TopK(tensor="probabilities", k=1, output="top", labels="name"),
    ),
    labels=("well", "ill"),
)


def engine_of(batch_max: int) -> Interface:
    return Interface(
        inputs=(
            tensor("pixels", DataType.FP32, 1, 2, 2),
            tensor("features", DataType.FP32, 2),
            tensor("words", DataType.BYTES, -1),
        ),
        outputs=(tensor("logits", DataType.FP32, 2), tensor("length", DataType.INT64, 1)),
        batch_max=batch_max,
    )


def test_requests_are_written_into_their_slices_of_a_batch() -> None:
    chain = Chain(RECIPE, engine=engine_of(8))
    batch = {
        "pixels": np.full((3, 1, 2, 2), -9, np.float32),
        "features": np.full((3, 2), -9, np.float32),
        "words": np.full((3, 1), b"-", np.object_),
    }
    request = {
        "photo": np.full((2, 7, 5, 1), 5, np.uint8),
        "patient": np.array([[30.0, np.nan], [40.0, 80.0]]),
        "words": np.array([[b"a"], [b"b"]], np.object_),
    }
    chain.before(request, {name: array[1:] for name, array in batch.items()})
    np.testing.assert_array_equal(batch["pixels"][:, 0, 0, 0], [-9, 2, 2])
    np.testing.assert_array_equal(batch["features"], [[-9, -9], [70, 30], [80, 40]])
    assert batch["words"].tolist() == [[b"-"], [b"a"], [b"b"]]


def test_prepared_shapes_follow_the_request() -> None:
    request: dict[str, Array] = {
        "photo": np.zeros((2, 7, 5, 1), np.uint8),
        "patient": np.zeros((2, 2)),
        "words": np.zeros((2, 6), np.object_),
    }
    shapes = {"pixels": (2, 1, 2, 2), "features": (2, 2), "words": (2, 6)}
    assert Chain(RECIPE, engine=engine_of(8)).prepared_shape(request) == shapes
    alone = {name: array[0] for name, array in request.items()}
    unbatched = {name: shape[1:] for name, shape in shapes.items()}
    assert Chain(RECIPE, engine=engine_of(0)).prepared_shape(alone) == unbatched


def test_an_unbatched_request_gives_the_same_values() -> None:
    request: dict[str, Array] = {
        "photo": np.arange(35, dtype=np.uint8).reshape(7, 5, 1),
        "patient": np.array([30.0, np.nan]),
        "words": np.array([b"a", b"b"], np.object_),
    }
    made = []
    for chain, inputs in (
        (Chain(RECIPE, engine=engine_of(0)), request),
        (
            Chain(RECIPE, engine=engine_of(8)),
            {name: array[None] for name, array in request.items()},
        ),
    ):
        into = {
            name: np.empty(shape, np.object_ if name == "words" else np.float32)
            for name, shape in chain.prepared_shape(inputs).items()
        }
        chain.before(inputs, into)
        made.append(into)
    for name, array in made[0].items():
        np.testing.assert_array_equal(array, made[1][name][0])


def test_engine_outputs_are_passed_on_beside_the_added_ones() -> None:
    outputs = {"logits": np.array([[0, 1]], np.float32), "length": np.array([[3]])}
    answers = Chain(RECIPE, engine=engine_of(8)).after(outputs)
    assert list(answers) == ["logits", "length", "probabilities", "top", "name"]
    assert answers["length"] is outputs["length"]
    assert answers["name"].tolist() == [[b"ill"]]
    assert list(outputs) == ["logits", "length"]


@pytest.mark.parametrize("batch_max", [0, 8])
def test_warm_runs_everything_once(batch_max: int) -> None:
    Chain(RECIPE, engine=engine_of(batch_max)).warm()


def test_a_prepared_tensor_is_copied_under_the_engines_name() -> None:
    item = InputRecipe(
        feeds="x",
        raw=tensor("photo", DataType.UINT8, 2, 2, 1),
        accepts=Accepts.PREPARED,
        steps=(Cast(), Layout()),
    )
    taken = tensor("x", DataType.FP32, 1, 2, 2)
    engine = Interface(inputs=(taken,), outputs=(), batch_max=4)
    sent = np.arange(4, dtype=np.float32).reshape(1, 1, 2, 2)
    into = np.empty_like(sent)
    Chain(Recipe(inputs=(item,)), engine=engine).before({"x": sent}, {"x": into})
    np.testing.assert_array_equal(into, sent)


def test_a_cast_alone_takes_a_tensor_of_any_rank() -> None:
    item = InputRecipe(feeds="x", raw=tensor("ids", DataType.FP64, 2, 1, 1, 2), steps=(Cast(),))
    taken = tensor("x", DataType.FP32, 2, 1, 1, 2)
    engine = Interface(inputs=(taken,), outputs=(), batch_max=4)
    sent = np.array([1e300, -1e300, np.nan, 0.1]).reshape(1, 2, 1, 1, 2)
    into = np.empty(sent.shape, np.float32)
    Chain(Recipe(inputs=(item,)), engine=engine).before({"ids": sent}, {"x": into})
    np.testing.assert_array_equal(into.ravel(), [np.inf, -np.inf, np.nan, np.float32(0.1)])


def test_wrong_shapes_never_reach_a_kernel() -> None:
    chain = Chain(
        Recipe(inputs=(PATIENT,)),
        engine=Interface(inputs=(tensor("features", DataType.FP32, 2),), outputs=(), batch_max=8),
    )
    into = np.empty((1, 2), np.float32)
    with pytest.raises(AssertionError, match="'patient'"):
        chain.before({"patient": np.zeros((1, 1))}, {"features": into})
    with pytest.raises(AssertionError, match="'features'"):
        chain.before({"patient": np.zeros((2, 2))}, {"features": into})


@pytest.mark.parametrize("datatype", [DataType.BOOL, DataType.INT64, DataType.FP16, DataType.BYTES])
@pytest.mark.parametrize("batch_max", [0, 4])
def test_axes_of_any_datatype_are_reordered(datatype: DataType, batch_max: int) -> None:
    raw = tensor("photo", datatype, -1, 3, 2)
    item = InputRecipe(feeds="x", raw=raw, steps=(Layout(),))
    made = tensor("x", datatype, 2, -1, 3)
    recipe = Recipe(inputs=(item,), after=(RescaleBoxes(tensor="b", image="x", output="in_image"),))
    boxes = tensor("b", DataType.FP32, 1, 4)
    engine = Interface(inputs=(made,), outputs=(boxes,), batch_max=batch_max)
    if datatype is DataType.BYTES:
        with pytest.raises(RecipeError, match="put a decode first"):
            Chain(recipe, engine=engine)
        return
    chain, rows = Chain(recipe, engine=engine), (2,) if batch_max else ()
    sent = np.arange(24 if batch_max else 12).reshape(*rows, 2, 3, 2).astype(datatype.numpy)
    into, placed = np.empty((*rows, 2, 2, 3), datatype.numpy), np.empty((len(rows) + 1, 6))
    chain.before({"photo": sent}, {"x": into}, {"x": placed})
    np.testing.assert_array_equal(into, np.moveaxis(sent, -1, -3))
    assert placed.tolist() == [[1.0, 0.0, 1.0, 0.0, 3.0, 2.0]] * (len(rows) + 1)


def test_a_recipe_that_does_not_fit_makes_no_chain() -> None:
    with pytest.raises(RecipeError, match="does not take"):
        Chain(RECIPE, engine=Interface(inputs=(), outputs=(), batch_max=1))
