"""Encoded pictures: the bytes of a JPEG or PNG file to pixels (the door of Pillow and simplejpeg).

Knows: what `appliance.recipe.Decode` says. Rules: the bytes are a stranger's, so the header is read
first and its size checked before a pixel is decoded; whatever Pillow raises at them becomes a
RequestError; only the two formats' readers are used, never Pillow's search through all of them.
A JPEG file in which libjpeg finds nothing to warn of is decoded by simplejpeg, into memory that is
kept; every other file, and every refusal, is Pillow's. Leaves to others: what
becomes of the pixels (`images`), their order (`image_plan`).
"""

import io
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import numpy as np
import simplejpeg
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from appliance.errors import RequestError
from appliance.recipe import Decode
from appliance.tensors import Array
from runtime.kernels.scratch import Workspace

JPEG_START = b"\xff\xd8\xff"
READERS: Final[dict[bytes, Callable[[io.BytesIO], ImageFile.ImageFile]]] = {
    JPEG_START: JpegImageFile,
    b"\x89PNG\r\n\x1a\n": PngImageFile,
}
MODES: Final = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's
STRAIGHT: Final = {  # what simplejpeg may do: a JPEG file's colours and the channels asked for
    ("Gray", 1): "GRAY",
    ("Gray", 3): "RGB",
    ("RGB", 3): "RGB",
    ("YCbCr", 3): "RGB",
}
ORIENTATION_TAG = 0x0112
TURNS: Final = {  # EXIF's orientations to what undoes them
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SIDEWAYS = 5  # from this orientation on height and width change places
SCANS_MAX = 256  # a JPEG may decode all its pixels once a scan
KEPT_BYTES_MAX = 1 << 24  # of pixels, between two files of a thread
CACHE_STEP = 32
MESSAGE_CHARACTERS_MAX = 120


def picture_size(data: bytes, step: Decode) -> tuple[int, int]:
    """Height and width of what `decoded` gives, from the header. Raises RequestError as it does."""
    with _told():
        picture = _opened(data, step)
        width, height = picture.size
        return (width, height) if _orientation(picture, step) >= SIDEWAYS else (height, width)


def decoded(data: bytes, step: Decode, work: Workspace | None = None) -> Array:
    """The pixels, UINT8 (height, width, channels), perhaps read-only: grey, or red, green, blue and alpha.

    With `work` they may lie in it, good until the thread's next call. Raises RequestError for what is
    no JPEG or PNG, has too many pixels, is truncated or corrupt.
    """
    with _told():
        picture = None if step.orientation == "ignore" else _opened(data, step)
        turn = None if picture is None else TURNS.get(_orientation(picture, step))
        straight = _straight(data, step, work) if turn is None else None
        if straight is not None:
            return straight
        image = _in_mode(picture or _opened(data, step), MODES[step.channels])
        if turn is not None:
            image = image.transpose(turn)
        pixels = np.frombuffer(image.tobytes(), np.uint8)
        return pixels.reshape(image.height, image.width, step.channels)


def _opened(data: bytes, step: Decode) -> ImageFile.ImageFile:
    """The picture, its header read and checked."""
    reader = next((made for start, made in READERS.items() if data.startswith(start)), None)
    if reader is None:
        raise RequestError(
            f"holds {len(data)} bytes that are no JPEG or PNG file",
            remedy="send the bytes of a JPEG or PNG file as they are, not as text or pixels",
        )
    if reader is JpegImageFile and _scans(data) > SCANS_MAX:
        raise RequestError(
            f"is a JPEG file of more than {SCANS_MAX} scans",
            remedy="save the picture again as an ordinary JPEG file",
        )
    picture = reader(io.BytesIO(data))
    width, height = picture.size
    if width * height > step.pixels_max:
        raise RequestError(
            f"has {height} x {width} pixels, the limit is {step.pixels_max} in all",
            remedy="send a smaller picture, or raise pixels_max of the recipe's decode step",
        )
    return picture


def _scans(data: bytes) -> int:
    """How many scans a JPEG file may have: no other FF DA stands in one outside its comments."""
    values = np.frombuffer(data, np.uint8)
    return int(np.count_nonzero((values[:-1] == 0xFF) & (values[1:] == 0xDA)))


def _straight(data: bytes, step: Decode, work: Workspace | None) -> Array | None:
    """What simplejpeg makes of a JPEG file, None where it must not or finds any fault."""
    if not data.startswith(JPEG_START) or _scans(data) > SCANS_MAX:
        return None
    try:
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        form = STRAIGHT.get((colours, step.channels))
        if form is None or height * width > step.pixels_max:
            return None
        pixels = _memory((height, width, step.channels), work)
        simplejpeg.decode_jpeg(data, form, buffer=pixels)
    except (
        KeyError,
        ValueError,
    ):  # even what libjpeg only warns of: Pillow decodes it, or says what is wrong
        return None
    return pixels


def _memory(shape: tuple[int, int, int], work: Workspace | None) -> Array:
    """Room for pixels, so placed that libjpeg-turbo writes them through the cache.

    To rows that begin at a multiple of 32 it writes past the cache, from where they are read at once.
    """
    size = math.prod(shape)
    if work is None or size > KEPT_BYTES_MAX:
        room = np.empty(size + CACHE_STEP, np.uint8)
    else:
        room = work.take("pixels", np.uint8, size + CACHE_STEP)
    start = (CACHE_STEP // 2 - room.ctypes.data) % CACHE_STEP
    return room[start : start + size].reshape(shape)


def _orientation(picture: ImageFile.ImageFile, step: Decode) -> int:
    """EXIF's orientation, 1 where it is not asked for or there is none."""
    if step.orientation == "ignore":
        return 1
    orientation = picture.getexif().get(ORIENTATION_TAG, 1)
    return orientation if orientation in TURNS else 1


def _in_mode(picture: ImageFile.ImageFile, mode: str) -> Image.Image:
    """Decode to 8 bits in `mode`."""
    picture.load()
    image: Image.Image = picture
    if image.mode.startswith("I"):  # 16-bit grey: Pillow would clip it at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if mode != "RGBA":
        image.info.pop("transparency", None)  # alpha is left out, not blended
    if mode == "L" and image.mode not in ("L", "1", "LA"):
        image = image.convert("RGB")  # so that grey is the same from any form of colour
    return image if image.mode == mode else image.convert(mode)


@contextmanager
def _told() -> Iterator[None]:
    """Tell what Pillow raises as a bad request: its readers raise nearly anything at bad bytes."""
    try:
        yield
    except (RequestError, MemoryError):
        raise
    except Exception as cause:
        why = str(cause)[:MESSAGE_CHARACTERS_MAX] or type(cause).__name__
        raise RequestError(
            f"cannot be decoded: {why}",
            remedy="send the whole bytes of a JPEG or PNG file that opens elsewhere",
        ) from cause
