"""Box steps against independent arithmetic: numpy in FP64, and OpenCV's suppression."""

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import EngineError
from appliance.recipe import (
    AfterStep,
    AnchorBoxes,
    AnchorGrid,
    BoxForm,
    Cast,
    InputRecipe,
    Layout,
    Normalise,
    Recipe,
    RescaleBoxes,
    SuppressBoxes,
    YoloBoxes,
)
from appliance.tensors import Array, DataType, Interface, TensorSpec
from runtime.kernels.chain import Chain

QUICK = settings(max_examples=60)
SEEDS = st.integers(0, 2**32 - 1)
PLACED = {"x": np.array([[1.5, -3.0, 2.0, 4.0, 60.0, 40.0], [1.0, 0.0, 1.0, 0.0, 9.0, 9.0]])}
IMAGE = InputRecipe(
    feeds="x",
    raw=TensorSpec(name="photo", datatype=DataType.UINT8, shape=(-1, -1, 3)),
    steps=(Cast(), Normalise(mean=(0.0,), std=(1.0,)), Layout()),
)
PIXELS = TensorSpec(name="x", datatype=DataType.FP32, shape=(3, -1, -1))


def chain_of(
    *steps: AfterStep, batch_max: int = 8, datatype: DataType = DataType.FP32, **shapes: Any
) -> Chain:
    outputs = tuple(
        TensorSpec(name=name, datatype=datatype, shape=shape) for name, shape in shapes.items()
    )
    recipe = Recipe(inputs=(IMAGE,), after=steps)
    engine = Interface(inputs=(PIXELS,), outputs=outputs, batch_max=batch_max)
    return Chain(recipe, engine=engine)


def nms(**options: Any) -> SuppressBoxes:
    wanted = {
        "boxes": "b",
        "scores": "s",
        "score_min": 0.25,
        "iou_max": 0.5,
        "output": "boxes",
        "output_scores": "scores",
        "output_classes": "classes",
        "output_count": "count",
    }
    return SuppressBoxes(**(wanted | options))


def crowd(seed: int, anchors: int = 60, classes: int = 3) -> tuple[Array, Array]:
    """Boxes (1, anchors, 4) that overlap a good deal, and scores on a coarse grid, so that some tie."""
    random = np.random.default_rng(seed)
    corner, size = random.uniform(0, 40, (anchors, 2)), random.uniform(0, 30, (anchors, 2))
    boxes = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    scores = (random.integers(0, 20, (anchors, classes)) / 20).astype(np.float32)
    return boxes[None], scores[None]


def iou(box: Array, others: Array) -> Array:
    """IoU in FP64 with a division; 0 where nothing has an area."""
    box, others = box.astype(np.float64), others.astype(np.float64)
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    common = np.clip(sides, 0, None).prod(axis=1)
    areas = [np.clip(b[..., 2:] - b[..., :2], 0, None).prod(axis=-1) for b in (box, others)]
    with np.errstate(invalid="ignore"):
        return np.nan_to_num(common / (areas[0] + areas[1] - common))


def kept_by_numpy(boxes: Array, scores: Array, step: SuppressBoxes) -> list[tuple[int, int]]:
    """(anchor, class) of the boxes kept, best first, with sorting and masks instead of a heap."""
    classes = scores.shape[1]
    passed = scores >= np.float32(step.score_min)
    passed &= np.isfinite(boxes).all(axis=1)[:, None]
    if step.background is not None:
        passed[:, step.background] = False
    if not step.every_class:
        best = np.where(passed, scores, -np.inf).argmax(axis=1)
        passed &= np.arange(classes) == best[:, None]
    flat = np.flatnonzero(passed)
    order = flat[np.argsort(-scores.ravel()[flat], kind="stable")][: step.candidates_max]
    left, kept = [(int(at) // classes, int(at) % classes) for at in order], []
    while left and len(kept) < step.boxes_max:
        anchor, c = left.pop(0)
        kept.append((anchor, c))
        near = iou(boxes[anchor], boxes[[a for a, _ in left]]) if left else np.zeros(0)
        left = [
            other
            for other, overlap in zip(left, near, strict=True)
            if overlap <= step.iou_max or not (step.agnostic or other[1] == c)
        ]
    return kept


@given(
    seed=SEEDS,
    iou_max=st.sampled_from([0.0, 0.3, 0.61, 1.0]),
    score_min=st.sampled_from([0.0, 0.25, 0.5, 2.0]),
    boxes_max=st.sampled_from([1, 7, 100]),
    candidates_max=st.sampled_from([100, 200]),
    every_class=st.booleans(),
    agnostic=st.booleans(),
    background=st.sampled_from([None, 0, 2]),
)
@QUICK
def test_suppression_keeps_what_sorting_and_masks_keep(seed: int, **options: Any) -> None:
    step, (boxes, scores) = nms(**options), crowd(seed)
    boxes[0, 3, 1], scores[0, 5, 1] = np.nan, np.nan
    made = chain_of(step, b=(60, 4), s=(60, 3)).after({"b": boxes, "s": scores})
    kept = kept_by_numpy(boxes[0], scores[0], step)
    count, blank = len(kept), step.boxes_max - len(kept)
    assert made["count"].tolist() == [[count]]
    assert made["classes"].tolist() == [[c for _, c in kept] + [-1] * blank]
    at = [anchor for anchor, _ in kept]
    np.testing.assert_array_equal(made["boxes"][0, :count], boxes[0, at])
    np.testing.assert_array_equal(made["scores"][0, :count], [scores[0, a, c] for a, c in kept])
    assert not made["boxes"][0, count:].any()
    assert not made["scores"][0, count:].any()
    assert [made[name].dtype for name in ("boxes", "scores", "classes", "count")] == [
        np.float32,
        np.float32,
        np.int64,
        np.int64,
    ]


@given(seed=SEEDS, agnostic=st.booleans())
@QUICK
def test_the_law_of_suppression(seed: int, agnostic: bool) -> None:
    """Kept boxes stand apart; each one left out is under the bar or overlaps a better one kept."""
    step, (boxes, scores) = nms(agnostic=agnostic, every_class=True, boxes_max=180), crowd(seed)
    made = chain_of(step, b=(60, 4), s=(60, 3)).after({"b": boxes, "s": scores})
    count = int(made["count"][0, 0])
    kept, classes = made["boxes"][0, :count], made["classes"][0, :count]
    values = made["scores"][0, :count]
    assert (np.diff(values) <= 0).all()
    rival = np.ones((count, count), bool) if agnostic else classes == classes[:, None]
    for at in range(count):
        near = iou(kept[at], kept)
        assert (near[rival[at] & (np.arange(count) != at)] <= step.iou_max).all()
    for anchor, c in np.argwhere(scores[0] >= step.score_min):
        box, score = boxes[0, anchor], scores[0, anchor, c]
        same = np.ones(count, bool) if agnostic else classes == c
        itself = (kept == box).all(axis=1) & (classes == c)
        covered = (iou(box, kept) > step.iou_max) & same & (values >= score)
        assert (itself | covered).any()


@given(seed=SEEDS, iou_max=st.sampled_from([0.2, 0.5, 0.8]))
@QUICK
def test_suppression_is_opencvs(seed: int, iou_max: float) -> None:
    boxes, _ = crowd(seed)
    scores = np.random.default_rng(seed).permutation(60).astype(np.float32) / 60
    step = nms(iou_max=iou_max, score_min=0.25)
    made = chain_of(step, b=(60, 4), s=(60,)).after({"b": boxes, "s": scores[None]})
    corner, size = boxes[0, :, :2], boxes[0, :, 2:] - boxes[0, :, :2]
    sent = np.concatenate([corner, size], axis=1).astype(np.float64).tolist()
    kept = np.array(cv2.dnn.NMSBoxes(sent, scores.tolist(), 0.25 - 1e-6, iou_max)).ravel()
    count = int(made["count"][0, 0])
    np.testing.assert_array_equal(made["scores"][0, :count], scores[kept])
    np.testing.assert_array_equal(made["boxes"][0, :count], boxes[0, kept])


def test_only_the_best_candidates_count() -> None:
    boxes, scores = crowd(5)
    step = nms(candidates_max=4, boxes_max=4, iou_max=1.0, score_min=0.0)
    made = chain_of(step, b=(60, 4), s=(60, 3)).after({"b": boxes, "s": scores})
    assert made["scores"][0].tolist() == sorted(scores[0].max(axis=1).tolist())[:-5:-1]


def test_boxes_without_an_area_cover_nothing() -> None:
    boxes = np.array([[[5, 5, 5, 5], [5, 5, 5, 5], [9, 9, 1, 1], [9, 9, 1, 1]]], np.float32)
    scores = np.full((1, 4), 0.5, np.float32)
    made = chain_of(nms(iou_max=0.0), b=(4, 4), s=(4,)).after({"b": boxes, "s": scores})
    assert made["count"].tolist() == [[4]]


@pytest.mark.parametrize("anchors", [0, 3])
def test_any_number_of_boxes(anchors: int) -> None:
    chain = chain_of(nms(boxes_max=5), b=(-1, 4), s=(-1, 2))
    boxes, scores = crowd(1, anchors, 2)
    made = chain.after({"b": boxes, "s": scores + 0.5})
    assert made["boxes"].shape == (1, 5, 4)
    assert made["count"][0, 0] == min(anchors, made["count"][0, 0])


@pytest.mark.parametrize("batch_max", [8, 0])
def test_axes_before_the_boxes_are_rows(batch_max: int) -> None:
    boxes, scores = crowd(2)
    outputs = {"b": np.repeat(boxes, 2, axis=0), "s": np.stack([scores[0], scores[0] * 0])}
    if batch_max:
        outputs = {name: array[None] for name, array in outputs.items()}
    chain = chain_of(nms(boxes_max=6), batch_max=batch_max, b=(2, 60, 4), s=(2, 60, 3))
    made = chain.after(outputs)
    lead = (1, 2) if batch_max else (2,)
    assert made["boxes"].shape == (*lead, 6, 4)
    assert made["count"].reshape(-1).tolist()[1] == 0
    assert (made["classes"].reshape(2, 6)[1] == -1).all()


FORMS = {
    "xyxy": [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1],
    "yxyx": [0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1, 0],
    "xywh": [1, 0, 0, 0, 0, 1, 0, 0, 1, 0, 1, 0, 0, 1, 0, 1],
    "cxcywh": [1, 0, -0.5, 0, 0, 1, 0, -0.5, 1, 0, 0.5, 0, 0, 1, 0, 0.5],
}


@given(seed=SEEDS, form=st.sampled_from(sorted(FORMS)))
@QUICK
def test_forms(seed: int, form: Any) -> None:
    """Each form is a matrix; FP32 is off by one rounding of a sum and one of a product."""
    given_boxes = np.random.default_rng(seed).uniform(-9, 9, (2, 7, 4)).astype(np.float32)
    step = BoxForm(tensor="b", form=form, width=640.0, height=480.0, output="o")
    made = chain_of(step, b=(7, 4)).after({"b": given_boxes})["o"]
    matrix = np.reshape(FORMS[form], (4, 4))
    wanted = given_boxes.astype(np.float64) @ matrix.T * [640, 480, 640, 480]
    np.testing.assert_allclose(made, wanted, rtol=3e-7)


@given(
    seed=SEEDS,
    order=st.sampled_from(["values_first", "anchors_first"]),
    objectness=st.booleans(),
    datatype=st.sampled_from([DataType.FP16, DataType.FP32, DataType.FP64]),
)
@QUICK
def test_yolo_heads(seed: int, order: Any, objectness: bool, datatype: DataType) -> None:
    values, anchors = 4 + objectness + 3, 70
    head = np.random.default_rng(seed).uniform(0, 9, (2, values, anchors)).astype(datatype.numpy)
    step = YoloBoxes(tensor="h", order=order, objectness=objectness, boxes="b", scores="s")
    sent = head if order == "values_first" else head.transpose(0, 2, 1)
    made = chain_of(step, datatype=datatype, h=sent.shape[1:]).after({"h": sent})
    x, y, w, h = head[:, :4].astype(np.float32).astype(np.float64).transpose(1, 0, 2)
    edges = np.stack([x - w / 2, y - h / 2, x + w / 2, y + h / 2], axis=-1)
    np.testing.assert_array_equal(made["b"], edges.astype(np.float32))
    scores = head[:, 4 + objectness :].astype(np.float32).transpose(0, 2, 1)
    if objectness:
        scores *= head[:, 4].astype(np.float32)[..., None]
    np.testing.assert_array_equal(made["s"], scores)


GRIDS = (
    AnchorGrid(rows=3, columns=4, stride=8.0, sizes=((10.0, 20.0), (30.0, 5.0))),
    AnchorGrid(rows=1, columns=2, stride=16.0, offset=0.0, sizes=((40.0, 40.0),)),
)


@given(seed=SEEDS)
@QUICK
def test_anchor_boxes(seed: int) -> None:
    offsets = np.random.default_rng(seed).normal(0, 2, (2, 26, 4)).astype(np.float32)
    step = AnchorBoxes(tensor="t", grids=GRIDS, centre_variance=0.1, size_variance=0.2, output="b")
    made = chain_of(step, t=(26, 4)).after({"t": offsets})["b"]
    anchors = [
        ((j + grid.offset) * grid.stride, (i + grid.offset) * grid.stride, w, h)
        for grid in GRIDS
        for i in range(grid.rows)
        for j in range(grid.columns)
        for w, h in grid.sizes
    ]
    ax, ay, aw, ah = np.array(anchors).T
    tx, ty, tw, th = offsets.astype(np.float64).transpose(2, 0, 1)
    cx, cy, w, h = (
        ax + 0.1 * tx * aw,
        ay + 0.1 * ty * ah,
        aw * np.exp(0.2 * tw),
        ah * np.exp(0.2 * th),
    )
    wanted = np.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], axis=-1)
    np.testing.assert_allclose(made, wanted, rtol=1e-7, atol=1e-5)


def test_a_size_beyond_fp32_is_infinite_and_no_candidate() -> None:
    offsets = np.zeros((1, 26, 4), np.float32)
    offsets[0, 0, 2] = 3e4
    step = AnchorBoxes(tensor="t", grids=GRIDS, output="b")
    chain = chain_of(step, nms(score_min=0.5, iou_max=1.0), t=(26, 4), s=(26,))
    made = chain.after({"t": offsets, "s": np.ones((1, 26), np.float32)})
    assert made["b"][0, 0, [0, 2]].tolist() == [-np.inf, np.inf]
    assert made["count"].tolist() == [[25]]


@given(seed=SEEDS)
@QUICK
def test_rescaling(seed: int) -> None:
    boxes = np.random.default_rng(seed).uniform(-50, 90, (2, 5, 4)).astype(np.float32)
    boxes[0, 2], boxes[1, 1, 3] = 0.0, np.nan
    step = RescaleBoxes(tensor="b", image="x", output="o")
    made = chain_of(step, b=(5, 4)).after({"b": boxes}, PLACED)["o"]
    sx, tx, sy, ty, width, height = (column[:, None, None] for column in PLACED["x"].T)
    points = boxes.astype(np.float64).reshape(2, 5, 2, 2)
    wanted = np.stack(
        [
            np.clip(points[..., 0] * sx + tx, 0, width),
            np.clip(points[..., 1] * sy + ty, 0, height),
        ],
        axis=-1,
    ).reshape(2, 5, 4)
    wanted[0, 2] = 0.0
    np.testing.assert_array_equal(made, wanted.astype(np.float32))


def test_an_unbatched_image_has_one_place_for_all_boxes() -> None:
    step = RescaleBoxes(tensor="b", image="x", output="o")
    boxes = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    placed = {"x": PLACED["x"][:1]}
    made = chain_of(step, batch_max=0, b=(2, 3, 4)).after({"b": boxes}, placed)["o"]
    rows = chain_of(step, b=(6, 4)).after({"b": boxes.reshape(1, 6, 4)}, placed)["o"]
    np.testing.assert_array_equal(made.reshape(1, 6, 4), rows)


def test_a_detector_warms_and_says_which_image_it_needs() -> None:
    steps = (
        YoloBoxes(tensor="h", boxes="b", scores="s"),
        nms(output="kept"),
        RescaleBoxes(tensor="kept", image="x", output="boxes"),
    )
    chain = chain_of(*steps, h=(7, 30))
    assert chain.placed_inputs == {"x"}
    chain.warm()


def test_an_engine_that_scores_other_boxes_is_told() -> None:
    chain = chain_of(nms(), b=(-1, 4), s=(-1, 3))
    with pytest.raises(EngineError, match=r"\[1, 5, 4\] in 'b' and scores of shape \[1, 6, 3\]"):
        chain.after({"b": np.zeros((1, 5, 4), np.float32), "s": np.zeros((1, 6, 3), np.float32)})
