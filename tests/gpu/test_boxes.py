"""Boxes on the device against the CPU's steps, within the bounds that `boxes` and `suppression` state."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import EngineError
from appliance.recipe import (
    AnchorBoxes,
    AnchorGrid,
    BoxForm,
    RescaleBoxes,
    SuppressBoxes,
    YoloBoxes,
)
from appliance.tensors import Array, DataType, TensorSpec, datatype_of
from runtime.gpu.program import Place
from runtime.kernels.boxes import box_maker
from runtime.kernels.cuda.boxes import box_part, placed_pairs
from runtime.kernels.cuda.suppression import SuppressPart
from tests.gpu.threads import run_part

SOME = settings(max_examples=10, print_blob=False)
MANY = settings(SOME, max_examples=60)
THREADS = 4
KEPT = {"output": "o", "output_scores": "os", "output_classes": "oc", "output_count": "on"}
dtypes = st.sampled_from([np.float32, np.float16])
seeds = st.integers(0, 2**32 - 1)


def spec_of(name: str, array: Array) -> TensorSpec:
    datatype = datatype_of(array.dtype)
    assert datatype is not None
    return TensorSpec(name=name, datatype=datatype, shape=array.shape[1:])


def on_cpu(step, tensors, placed=None):
    specs = {name: spec_of(name, array) for name, array in tensors.items()}
    with np.errstate(all="ignore"):
        made = box_maker(step, specs).run(tensors, placed or {})
    return {name: array for name, array in made.items() if name not in tensors}


def on_device(step, tensors, extra=None):
    specs = {name: spec_of(name, array) for name, array in tensors.items()}
    return run_part(box_part(step, specs), {**tensors, **(extra or {})})


def numbers(seed: int, shape: tuple[int, ...], dtype: type, scale: float = 50.0) -> Array:
    """Numbers of every size, with a NaN, an infinity and a zero now and then."""
    rng = np.random.default_rng(seed)
    made = rng.normal(scale=scale, size=shape) * rng.choice([1e-4, 1, 1, 1], shape)
    made = np.where(
        rng.random(shape) < 0.03, rng.choice([np.nan, np.inf, -np.inf, 0.0], shape), made
    )
    with np.errstate(over="ignore"):
        return made.astype(dtype)


def equal(got, wanted) -> None:
    assert set(got) == set(wanted)
    for name in wanted:
        assert got[name].dtype == wanted[name].dtype
        assert np.array_equal(got[name], wanted[name], equal_nan=wanted[name].dtype.kind == "f"), (
            name
        )


@settings(SOME, max_examples=6)
@given(
    seeds,
    dtypes,
    st.sampled_from(["values_first", "anchors_first"]),
    st.booleans(),
    st.sampled_from(["xyxy", "cxcywh", "xywh", "yxyx"]),
    st.sampled_from([1, 33]),
    st.sampled_from([1, 34]),
)
def test_heads_are_the_same(  # noqa: PLR0917
    seed, dtype, order, objectness, form, anchors, classes
):
    values = 4 + objectness + classes
    shape = (values, anchors) if order == "values_first" else (anchors, values)
    head = numbers(seed, (2, *shape), dtype)
    step = YoloBoxes(
        tensor="x", order=order, objectness=objectness, form=form, boxes="b", scores="s"
    )
    equal(on_device(step, {"x": head}), on_cpu(step, {"x": head}))


def test_a_grid_holds_any_number_of_anchors():
    shape = (6, 3_000_000)
    step = YoloBoxes(tensor="x", boxes="b", scores="s")
    part = box_part(step, {"x": TensorSpec(name="x", datatype=DataType.FP32, shape=shape)})
    at = Place(space="arena", offset=0)
    launches = part.launches({"x": (2, *shape)}, dict.fromkeys("xbs", at), at, at)
    # CUDA's programming guide, "Technical specifications": 2^31 - 1 blocks along x, 65535 along y and z.
    assert all(max(launch.grid[1:]) <= 65535 for launch in launches)
    assert [launch.grid[0] for launch in launches][1] == 2 * 3_000_000 // 32


@SOME
@given(seeds, dtypes, st.sampled_from(["xyxy", "cxcywh", "xywh", "yxyx"]))
def test_forms_are_the_same(seed, dtype, form):
    boxes = numbers(seed, (2, 5, 4), dtype)
    step = BoxForm(tensor="x", form=form, width=640.0, height=0.1, output="y")
    equal(on_device(step, {"x": boxes}), on_cpu(step, {"x": boxes}))


@SOME
@given(seeds, dtypes)
def test_anchor_boxes(seed, dtype):
    sizes = ((60.0, 60.3), (85.7, 42.0))
    grids = (
        AnchorGrid(rows=2, columns=3, stride=16.0, sizes=sizes),
        AnchorGrid(rows=1, columns=2, stride=32.1, offset=0.3, sizes=sizes[:1]),
    )
    step = AnchorBoxes(tensor="x", grids=grids, output="y")
    offsets = numbers(seed, (2, 14, 4), dtype, scale=4.0)
    got, wanted = on_device(step, {"x": offsets})["y"], on_cpu(step, {"x": offsets})["y"]
    assert np.array_equal(np.isfinite(got), np.isfinite(wanted))
    known = np.isfinite(wanted).all(axis=-1)
    # A centre and half a size add up to an edge: the unit is that of the larger of the two.
    reach = np.abs(wanted[known]).max(axis=-1, keepdims=True) + 100.0
    assert np.all(np.abs(got[known] - wanted[known]) <= np.spacing(reach.astype(np.float32)))


@SOME
@given(seeds, dtypes)
def test_rescaled_boxes(seed, dtype):
    rng = np.random.default_rng(seed)
    boxes = numbers(seed, (3, 6, 4), dtype, scale=300.0)
    boxes[:, 2] = 0.0
    placed = rng.uniform(0.01, 7.0, (3, 6))
    placed[:, [1, 3]] = rng.uniform(-100, 100, (3, 2))
    placed[:, 4:] = rng.integers(1, 4000, (3, 2))
    step = RescaleBoxes(tensor="x", image="image", output="y")
    got = on_device(step, {"x": boxes}, {"placed:image": placed_pairs(placed)})["y"]
    wanted = on_cpu(step, {"x": boxes}, {"image": placed})["y"]
    assert np.array_equal(np.isnan(got), np.isnan(wanted))
    assert np.array_equal(got[:, 2], np.zeros((3, 4)))
    known = ~np.isnan(wanted)
    with np.errstate(all="ignore"):
        scaled = boxes.astype(np.float64) * placed[:, None, [0, 2, 0, 2]]
    shifts = np.abs(placed[:, None, [1, 3, 1, 3]])
    reach = np.maximum(np.nan_to_num(np.abs(scaled), posinf=0.0), shifts).astype(np.float32)
    assert np.all((np.abs(got - wanted) <= np.spacing(reach))[known])


@MANY
@given(
    seeds,
    dtypes,
    st.integers(1, 24),
    st.integers(1, 4),
    st.booleans(),
    st.booleans(),
    st.sampled_from([None, 0, 1]),
    st.sampled_from([0.0, 0.3, 0.5, 1.0]),
    st.sampled_from([1, 3, 16]),
    st.sampled_from([1, 4, 13, 4096]),
)
def test_suppression_keeps_the_same_boxes(  # noqa: PLR0917
    seed, dtype, anchors, classes, every_class, agnostic, background, iou_max, kept, candidates
):
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 6, (2, anchors, 4)).astype(dtype)
    sizes = rng.choice([0.0, 1.0, 2.0, 2.5, -1.0], (2, anchors, 4)).astype(dtype)
    boxes = corners + np.where([False, False, True, True], sizes, 0).astype(dtype)
    boxes[rng.random((2, anchors)) < 0.05, 1] = np.nan
    scores = rng.choice(
        [0.1, 0.25, 0.25, 0.5, 0.75, 0.9, np.nan, -0.0, 0.0, -1.0], (2, anchors, classes)
    )
    step = SuppressBoxes(
        boxes="b",
        scores="s",
        score_min=float(rng.choice([-2.0, 0.0, 0.25, 0.6])),
        iou_max=iou_max,
        boxes_max=kept,
        candidates_max=candidates,
        every_class=every_class,
        agnostic=agnostic,
        background=background,
        output="o",
        output_scores="os",
        output_classes="oc",
        output_count="on",
    )
    tensors = {"b": boxes, "s": scores.astype(dtype)}
    specs = [spec_of(name, array) for name, array in tensors.items()]
    part = SuppressPart(step, *specs, threads=THREADS)
    equal(run_part(part, tensors), on_cpu(step, tensors))


def test_scores_without_classes_and_more_axes_of_rows():
    rng = np.random.default_rng(3)
    boxes = rng.integers(0, 9, (2, 2, 6, 4)).astype(np.float32)
    scores = rng.random((2, 2, 6)).astype(np.float32)
    step = SuppressBoxes(boxes="b", scores="s", score_min=0.1, iou_max=0.5, boxes_max=3, **KEPT)
    tensors = {"b": boxes, "s": scores}
    specs = [spec_of(name, array) for name, array in tensors.items()]
    equal(run_part(SuppressPart(step, *specs, threads=THREADS), tensors), on_cpu(step, tensors))


def test_what_the_interface_does_not_say_is_refused():
    boxes = TensorSpec(name="b", datatype=DataType.FP32, shape=(-1, 4))
    scores = TensorSpec(name="s", datatype=DataType.FP32, shape=(-1, 2))
    step = BoxForm(tensor="b", form="xywh", output="y")
    with pytest.raises(EngineError, match="another shape"):
        box_part(step, {"b": boxes}).made({"b": (1, 3, 5)})
    nms = SuppressBoxes(boxes="b", scores="s", score_min=0.1, iou_max=0.5, **KEPT)
    with pytest.raises(EngineError, match="gave boxes of shape"):
        box_part(nms, {"b": boxes, "s": scores}).made({"b": (1, 3, 4), "s": (1, 2, 2)})
    head = TensorSpec(name="x", datatype=DataType.FP32, shape=(6, -1))
    yolo = YoloBoxes(tensor="x", boxes="b", scores="s")
    with pytest.raises(EngineError, match="another shape"):
        box_part(yolo, {"x": head}).made({"x": (1, 7, 3)})
