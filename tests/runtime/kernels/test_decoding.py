"""Encoded pictures: what comes out of good files, and what is said of bad ones."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any, ClassVar

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from appliance.errors import RequestError
from appliance.recipe import Cast, Colour, Crop, Decode, Layout, Normalise, Resize
from appliance.tensors import Array, DataType
from runtime.kernels import decoding
from runtime.kernels.decoding import decoded as stored
from runtime.kernels.decoding import picture_size
from runtime.kernels.scratch import Workspace

RNG = np.random.default_rng(1)
PIXELS = RNG.integers(0, 256, (9, 14, 3), dtype=np.uint8)
SMOOTH = np.add.outer(np.arange(40) * 2, np.arange(56) * 3)[..., None] % 256
SMOOTH = (SMOOTH * [1, 0.5, 0.25] + [0, 40, 90]).astype(np.uint8)


def file_of(image: Image.Image | Array, form: str = "PNG", **options: Any) -> bytes:
    made = image if isinstance(image, Image.Image) else Image.fromarray(image)
    file = io.BytesIO()
    made.save(file, form, **options)
    return file.getvalue()


def decoded(data: bytes, step: Decode) -> Array:
    """As the step gives it."""
    pixels = stored(data, step)
    order = [0, 1, 2, 3] if step.order == "RGB" or step.channels == 1 else [2, 1, 0, 3]
    return pixels[..., order[: step.channels]]


def by_pillow(data: bytes, step: Decode) -> Array:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decoding, "STRAIGHT", {})
        return decoded(data, step)


def files(*data: bytes) -> Array:
    array = np.empty((len(data), 1), np.object_)
    array[:, 0] = data
    return array


PNG, JPEG = file_of(PIXELS), file_of(SMOOTH, "JPEG", quality=90)


class TestGoodFiles:
    """What comes out."""

    def test_png_is_exact_in_either_order(self) -> None:
        np.testing.assert_array_equal(decoded(PNG, Decode()), PIXELS)
        np.testing.assert_array_equal(decoded(PNG, Decode(order="BGR")), PIXELS[..., ::-1])
        rgba = np.dstack([PIXELS, PIXELS[..., :1]])
        np.testing.assert_array_equal(decoded(file_of(rgba), Decode(channels=4)), rgba)
        bgra = rgba[..., [2, 1, 0, 3]]
        got = decoded(file_of(rgba), Decode(channels=4, order="BGR"))
        np.testing.assert_array_equal(got, bgra)

    def test_jpeg_is_opencvs(self) -> None:
        theirs = cv2.imdecode(np.frombuffer(JPEG, np.uint8), cv2.IMREAD_COLOR)
        ours = decoded(JPEG, Decode(order="BGR"))
        assert np.abs(ours.astype(int) - theirs.astype(int)).max() <= 2

    def test_alpha_is_left_out_not_blended(self) -> None:
        rgba = np.dstack([PIXELS, np.zeros((9, 14, 1), np.uint8)])
        np.testing.assert_array_equal(decoded(file_of(rgba), Decode()), PIXELS)
        np.testing.assert_array_equal(
            decoded(PNG, Decode(channels=4))[..., 3], np.full((9, 14), 255)
        )

    def test_grey_is_repeated_and_colour_weighted(self) -> None:
        grey = PIXELS[..., 0]
        np.testing.assert_array_equal(decoded(file_of(grey), Decode()), np.dstack([grey] * 3))
        np.testing.assert_array_equal(decoded(file_of(grey), Decode(channels=1))[..., 0], grey)
        luma = np.asarray(Image.fromarray(PIXELS).convert("L"))
        np.testing.assert_array_equal(decoded(PNG, Decode(channels=1))[..., 0], luma)

    def test_palettes_and_their_transparency(self) -> None:
        image = Image.fromarray(PIXELS).quantize(16)
        wanted = np.asarray(image.convert("RGB"))
        np.testing.assert_array_equal(decoded(file_of(image), Decode()), wanted)
        see_through = file_of(image, transparency=bytes(range(16)))
        np.testing.assert_array_equal(decoded(see_through, Decode()), wanted)
        alpha = decoded(see_through, Decode(channels=4))[..., 3]
        np.testing.assert_array_equal(alpha, np.asarray(image))
        assert decoded(see_through, Decode(channels=1)).shape == (9, 14, 1)

    def test_one_bit(self) -> None:
        bits = Image.fromarray(PIXELS[..., 0] > 99)
        wanted = (PIXELS[..., 0] > 99) * 255
        np.testing.assert_array_equal(decoded(file_of(bits), Decode(channels=1))[..., 0], wanted)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_16_bit_samples_keep_their_high_byte(self, channels: int) -> None:
        values = RNG.integers(0, 65536, (5, 6, channels), dtype=np.uint16)
        done, file = cv2.imencode(".png", values)
        assert done
        made = decoded(file.tobytes(), Decode(channels=3, order="BGR"))
        np.testing.assert_array_equal(made, np.broadcast_to(values >> 8, (5, 6, 3)))

    def test_cmyk_by_the_stated_formula(self) -> None:
        image = Image.fromarray(SMOOTH).convert("CMYK")
        file = file_of(image, "JPEG", quality=95)
        c = np.asarray(Image.open(io.BytesIO(file))).astype(float)
        wanted = np.rint((255 - c[..., 3:]) * (255 - c[..., :3]) / 255)
        assert np.abs(decoded(file, Decode()) - wanted).max() <= 1

    @pytest.mark.parametrize("form", ["PNG", "JPEG"])
    @pytest.mark.parametrize("orientation", range(10))
    def test_orientation(self, form: str, orientation: int) -> None:
        from PIL import ImageOps

        exif = Image.Exif()
        exif[0x0112] = orientation
        file = file_of(SMOOTH, form, exif=exif)
        plain = decoded(file, Decode())
        assert plain.shape == SMOOTH.shape
        turned = decoded(file, Decode(orientation="apply"))
        wanted = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(file))))
        np.testing.assert_array_equal(turned, wanted)
        assert picture_size(file, Decode(orientation="apply")) == wanted.shape[:2]

    def test_the_default_image_of_an_animation(self) -> None:
        frames = [Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)]
        file = file_of(frames[0], save_all=True, append_images=frames[1:])
        np.testing.assert_array_equal(decoded(file, Decode()), PIXELS)


GREY_JPEG = file_of(SMOOTH[..., 0], "JPEG", quality=80)


class TestStraight:
    """JPEG files that Pillow is spared: the same pixels."""

    SAVED: ClassVar[dict[str, dict[str, Any]]] = {
        "4:2:0": {"quality": 90},
        "4:2:2": {"subsampling": 1},
        "4:4:4": {"subsampling": 0},
        "progressive": {"progressive": True, "quality": 40},
        "optimised, with restarts": {"optimize": True, "restart_marker_blocks": 2},
        "RGB": {"keep_rgb": True},
        "with a comment": {"comment": b"\xff\xda" * 3},
    }

    @pytest.mark.parametrize("options", SAVED.values(), ids=SAVED.keys())
    @pytest.mark.parametrize("size", [(40, 56), (33, 41), (1, 1), (7, 1)])
    def test_it_is_what_pillow_decodes(
        self, options: dict[str, Any], size: tuple[int, int]
    ) -> None:
        file = file_of(SMOOTH[: size[0], : size[1]], "JPEG", **options)
        made = straight(file, Decode())
        assert made is not None
        np.testing.assert_array_equal(made, by_pillow(file, Decode()))

    @pytest.mark.parametrize("channels", [1, 3])
    def test_grey(self, channels: Any) -> None:
        made = straight(GREY_JPEG, Decode(channels=channels))
        assert made is not None
        np.testing.assert_array_equal(made, by_pillow(GREY_JPEG, Decode(channels=channels)))

    def test_all_else_is_pillows(self) -> None:
        cmyk = file_of(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG")
        for file, step in (
            (PNG, Decode()),
            (cmyk, Decode()),
            (JPEG, Decode(channels=1)),
            (JPEG, Decode(channels=4)),
            (GREY_JPEG, Decode(channels=4)),
            (JPEG, Decode(pixels_max=40 * 56 - 1)),
            (JPEG[:-40], Decode()),
            (JPEG[:-2], Decode()),
            (JPEG[:-2] + b"\xff\xda" * 300 + JPEG[-2:], Decode()),
        ):
            assert straight(file, step) is None

    def test_where_libjpeg_warns_pillow_decides(self) -> None:
        at = JPEG.index(b"\xff\xda") + 30
        warned = JPEG[:at] + b"\xff\xd0" + JPEG[at:]
        assert straight(warned, Decode()) is None
        np.testing.assert_array_equal(decoded(warned, Decode()), by_pillow(warned, Decode()))

    def test_a_threads_memory_is_used_again(self) -> None:
        work = Workspace()
        first = stored(JPEG, Decode(), work)
        again = stored(JPEG, Decode(), work)
        assert np.shares_memory(first, again)
        assert not np.shares_memory(stored(JPEG, Decode()), stored(JPEG, Decode()))

    def test_a_large_one_is_not_kept(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(decoding, "KEPT_BYTES_MAX", SMOOTH.size - 1)
        work = Workspace()
        first = stored(JPEG, Decode(), work)
        assert not np.shares_memory(first, stored(JPEG, Decode(), work))


def straight(file: bytes, step: Decode) -> Array | None:
    return decoding._straight(file, step, None)


class TestBadFiles:
    """What is said."""

    REFUSED: ClassVar[dict[str, bytes]] = {
        "nothing": b"",
        "text": b"not a picture",
        "another format": file_of(PIXELS, "BMP"),
        "a gif": file_of(PIXELS, "GIF"),
        "a start alone": b"\xff\xd8\xff",
        "a truncated jpeg": JPEG[:-40],
        "a truncated png": PNG[:-40],
        "a png cut in its header": PNG[:20],
        "a wrong checksum": PNG[:60] + bytes([PNG[60] ^ 1]) + PNG[61:],
        "no pixels": PNG[:16] + bytes(8) + PNG[24:],
        "too many scans": JPEG[:-2] + b"\xff\xda" * 300 + JPEG[-2:],
    }

    @pytest.mark.parametrize("data", REFUSED.values(), ids=REFUSED.keys())
    def test_it_is_refused_with_a_remedy(self, data: bytes) -> None:
        with pytest.raises(RequestError) as caught:
            decoded(data, Decode())
        assert caught.value.remedy

    def test_a_bomb_is_refused_by_its_header(self) -> None:
        def chunk(kind: bytes, body: bytes) -> bytes:
            framed = kind + body
            return struct.pack(">I", len(body)) + framed + struct.pack(">I", zlib.crc32(framed))

        header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
        bomb = (
            b"\x89PNG\r\n\x1a\n"
            + chunk(b"IHDR", header)
            + chunk(b"IDAT", b"x")
            + chunk(b"IEND", b"")
        )
        for read in (decoded, picture_size):
            with pytest.raises(
                RequestError, match="has 60000 x 60000 pixels, the limit is 16777216"
            ):
                read(bomb, Decode())

    def test_the_limit_is_the_recipes(self) -> None:
        assert decoded(PNG, Decode(pixels_max=9 * 14)).shape == (9, 14, 3)
        with pytest.raises(RequestError, match="the limit is 125 in all"):
            decoded(PNG, Decode(pixels_max=125))


@given(seed=st.integers(0, 2**32 - 1), source=st.sampled_from([PNG, JPEG]))
@settings(max_examples=300)
def test_mutated_files_give_a_picture_or_a_refusal(seed: int, source: bytes) -> None:
    rng = np.random.default_rng(seed)
    data = bytearray(source)
    for _ in range(rng.integers(1, 6)):
        at = int(rng.integers(len(data)))
        match rng.integers(4):
            case 0:
                data[at] = int(rng.integers(256))
            case 1:
                del data[at : at + int(rng.integers(1, 30))]
            case 2:
                data[at:at] = rng.bytes(int(rng.integers(1, 30)))
            case _:
                data[at : at + 4] = rng.bytes(4)
        data = data or bytearray(b"\xff")
    step = Decode(pixels_max=1 << 20, orientation="apply")
    try:
        made = decoded(bytes(data), step)
    except RequestError as refusal:
        assert refusal.remedy  # noqa: PT017  either is right
    else:
        assert made.dtype == np.uint8
        assert made.shape == (*picture_size(bytes(data), step), 3)
        np.testing.assert_array_equal(made, by_pillow(bytes(data), step))
    plain = straight(bytes(data), Decode(pixels_max=1 << 20))
    if plain is not None:
        np.testing.assert_array_equal(plain, by_pillow(bytes(data), Decode(pixels_max=1 << 20)))


class TestInARecipe:
    """As the first step."""

    STEPS = (Resize(height=6, width=7), Cast(), Normalise(mean=(3.0,), std=(2.0,)), Layout())

    def test_it_feeds_the_steps_behind(self, through: Callable[..., Array]) -> None:
        made = through(files(PNG, JPEG), Decode(), *self.STEPS)
        np.testing.assert_array_equal(made[:1], through(PIXELS[None], *self.STEPS))
        np.testing.assert_array_equal(made[1:], through(decoded(JPEG, Decode())[None], *self.STEPS))

    @pytest.mark.parametrize("channels", [1, 3, 4])
    @pytest.mark.parametrize("order", ["RGB", "BGR"])
    def test_the_channels_are_those_asked_for(
        self, through: Callable[..., Array], channels: Any, order: Any
    ) -> None:
        step = Decode(channels=channels, order=order)
        np.testing.assert_array_equal(through(files(PNG), step)[0], decoded(PNG, step))
        if channels != 1:
            grey = through(files(PNG), step, Colour(to="grey", order=order))
            luma = np.asarray(Image.fromarray(PIXELS).convert("L"))
            np.testing.assert_array_equal(grey[0, :, :, 0], luma)
            swapped = through(files(PNG), step, Colour(to="swapped"), Layout())
            wanted = decoded(PNG, step)[..., [2, 1, 0, 3][:channels]]
            np.testing.assert_array_equal(swapped[0], wanted.transpose(2, 0, 1))

    def test_alone_it_gives_the_pictures_size(self, through: Callable[..., Array]) -> None:
        np.testing.assert_array_equal(through(files(PNG, PNG), Decode()), [PIXELS, PIXELS])
        turned = through(files(PNG), Decode(orientation="apply"), Layout())
        np.testing.assert_array_equal(turned[0], PIXELS.transpose(2, 0, 1))
        with pytest.raises(RequestError, match="unlike sizes"):
            through(files(PNG, JPEG), Decode())

    def test_where_it_lies_is_told_in_the_decoded_picture(
        self, placed: Callable[..., Array]
    ) -> None:
        steps = (Decode(), Resize(height=28, width=28, fit="letterbox"))
        assert placed(files(PNG), *steps).tolist() == [0.5, 0, 0.5, -2.5, 14, 9]

    def test_a_bad_file_is_named_by_row(self, through: Callable[..., Array]) -> None:
        with pytest.raises(RequestError, match="'image' row 1 holds 4 bytes") as caught:
            through(files(PNG, b"oops"), Decode(), *self.STEPS)
        assert caught.value.remedy
        with pytest.raises(RequestError, match="'image' row 0 has 9 x 14 pixels where"):
            through(files(PNG), Decode(), Crop(height=10, width=10))
        with pytest.raises(RequestError, match="'image' row 0 holds"):
            through(files(b"oops"), Decode())

    @pytest.mark.parametrize(
        "steps", [(), (Crop(height=30, width=20),), (Crop(height=3, width=2, top=4, left=5),)]
    )
    def test_it_warms_on_a_picture_that_fits(
        self, steps: tuple[Crop, ...], image_chain: Callable[..., Any]
    ) -> None:
        chain, _ = image_chain(DataType.BYTES, 1, Decode(), *steps)
        chain.warm()
