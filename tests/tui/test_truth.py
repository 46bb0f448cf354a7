"""True answers and moments as a person types them, and payloads as a person sees them."""

import io
from datetime import UTC, datetime

import numpy as np
import pytest
from PIL import Image

from appliance.audit.payload import Tensor
from appliance.tensors import DataType
from runtime.client.tensors import raw_from_array
from tui.moments import moment_ns
from tui.picturing import views_of
from tui.truth import truth_from

NOW_NS = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp()) * 10**9


def tensor(name: str, array: np.ndarray) -> Tensor:
    raw = raw_from_array(name, array)
    return Tensor(name=name, datatype=DataType(raw.datatype), shape=raw.shape, data=bytes(raw.data))


@pytest.mark.parametrize(
    ("text", "array"),
    [
        ("label=3", np.array([3])),
        ("label=3,4", np.array([3, 4])),
        ("share=0.5,1", np.array([0.5, 1.0])),
        ("name=oak,ash", np.array([b"oak", b"ash"], np.object_)),
        ("note=a=b:c", np.array([b"a=b:c"], np.object_)),
        ("scores:FP32=0.2,0.8", np.array([0.2, 0.8], np.float32)),
        ("label:INT8=-3", np.array([-3], np.int8)),
        ("good:BOOL=true,0", np.array([True, False])),
        ("code:BYTES=12", np.array([b"12"], np.object_)),
        ("large=99999999999999999999", np.array([1e20])),
    ],
)
def test_truth_is_read_as_it_is_meant(text: str, array: np.ndarray) -> None:
    assert truth_from(text) == tensor(text.partition("=")[0].partition(":")[0], array)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("label", "write NAME=VALUE"),
        ("=3", "write NAME=VALUE"),
        ("label:FP31=3", "FP31 is no datatype"),
        ("label:INT8=300", "is no INT8"),
        ("label:INT8=x", "is no INT8"),
        ("good:BOOL=maybe", "neither true nor false"),
    ],
)
def test_what_is_no_truth_is_told(text: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        truth_from(text)


@pytest.mark.parametrize(
    ("text", "seconds_ago"),
    [
        ("30m", 1800),
        ("7d", 7 * 86_400),
        ("2026-11-20T11:00:00Z", 3600),
        ("2026-11-20T12:00:00+02:00", 7200),
        ("2026-11-20", 43_200),
    ],
)
def test_moments(text: str, seconds_ago: int) -> None:
    assert moment_ns(text, NOW_NS) == NOW_NS - seconds_ago * 10**9


def test_what_is_no_moment_is_told() -> None:
    with pytest.raises(ValueError, match="write 2026"):
        moment_ns("yesterday", NOW_NS)


def test_pixels_come_out_as_they_went_in() -> None:
    images = np.random.default_rng(1).integers(0, 256, (2, 9, 7, 3), np.uint8)
    first, second = views_of([tensor("image", images)], {})
    assert (first.name, second.name) == ("image-0.png", "image-1.png")
    assert (np.asarray(Image.open(io.BytesIO(second.data))) == images[1]).all()
    assert len(first.lines) == 9
    assert first.remark == "7 x 9 pixels, 3 channels"


@pytest.mark.parametrize("shape", [(1, 1, 8, 8), (8, 8, 1), (1, 8, 8, 1)])
def test_other_values_are_stretched_and_that_is_said(shape: tuple[int, ...]) -> None:
    values = np.linspace(-2, 2, 64, dtype=np.float32).reshape(shape)
    (view,) = views_of([tensor("x", values)], {})
    pixels = np.asarray(Image.open(io.BytesIO(view.data)))
    assert (pixels.min(), pixels.max(), pixels.shape) == (0, 255, (8, 8))
    assert "least value" in view.remark


def test_a_file_is_written_as_it_was_sent() -> None:
    written = io.BytesIO()
    Image.new("RGB", (80, 60), (10, 200, 30)).save(written, "JPEG")
    broken = b"\xff\xd8\xffcut short"
    data = np.array([[written.getvalue()], [broken]], np.object_)
    whole, cut = views_of([tensor("photo", data)], {})
    assert (whole.name, whole.data) == ("photo-0.jpg", written.getvalue())
    assert len(whole.lines[0]) == 48
    assert (cut.data, cut.lines) == (broken, ())


def test_columns_stand_together_and_tables_have_their_names() -> None:
    inputs = [
        tensor("age", np.array([[41], [7]])),
        tensor("name", np.array([["oak"], ["a,b"]])),
        tensor("t", np.array([[0.5, 1.5], [2, 3]], np.float32)),
        tensor("u", np.zeros((1, 2), np.float64)),
    ]
    t, u, together = views_of(inputs, {"t": ("width", "height"), "u": ("one",)})
    assert t.lines == ("width,height", "0.5,1.5", "2,3")
    assert u.lines == ("0,1", "0,0")
    assert together.data == b'age,name\n41,oak\n7,"a,b"\n'
