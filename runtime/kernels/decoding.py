"""Encoded pictures: the bytes of a JPEG or PNG file to pixels (the door of Pillow).

Knows: what `appliance.recipe.Decode` says. Rules: the bytes are a stranger's, so the header is read
first and its size checked before a pixel is decoded; whatever Pillow raises at them becomes a
RequestError; only the two formats' readers are used, never Pillow's search through all of them.
Leaves to others: what becomes of the pixels (`images`), their order (`image_plan`).
"""

import io
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Final

import numpy as np
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from appliance.errors import RequestError
from appliance.recipe import Decode
from appliance.tensors import Array

READERS: Final[dict[bytes, Callable[[io.BytesIO], ImageFile.ImageFile]]] = {
    b"\xff\xd8\xff": JpegImageFile,
    b"\x89PNG\r\n\x1a\n": PngImageFile,
}
MODES: Final = {1: ("L", "L"), 3: ("RGB", "RGBX"), 4: ("RGBA", "RGBA")}  # Pillow's, and its bytes
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
SCAN, SCANS_MAX = re.compile(b"\xff\xda"), 256  # a JPEG may decode all its pixels once a scan
MESSAGE_CHARACTERS_MAX = 120


def picture_size(data: bytes, step: Decode) -> tuple[int, int]:
    """Height and width of what `decoded` gives, from the header. Raises RequestError as it does."""
    with _told():
        picture = _opened(data, step)
        width, height = picture.size
        return (width, height) if _orientation(picture, step) >= SIDEWAYS else (height, width)


def decoded(data: bytes, step: Decode) -> Array:
    """The pixels as Pillow keeps them, UINT8, perhaps read-only.

    (height, width, 1) for one channel, else (height, width, 4): red, green, blue and alpha or anything.
    Raises RequestError for what is no JPEG or PNG, has too many pixels, is truncated or corrupt.
    """
    with _told():
        picture = _opened(data, step)
        turn = TURNS.get(_orientation(picture, step))
        mode, stored = MODES[step.channels]
        image = _in_mode(picture, mode)
        if turn is not None:
            image = image.transpose(turn)
        pixels = np.frombuffer(image.tobytes("raw", stored), np.uint8)
        return pixels.reshape(image.height, image.width, len(stored))


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
    """How many scans a JPEG file may have, counted up to one over the limit."""
    return sum(1 for _ in islice(SCAN.finditer(data), SCANS_MAX + 1))


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
