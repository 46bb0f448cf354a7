"""Pictures in requests: JPEG and PNG files of strangers, behind an image recipe."""

import io
import struct
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from appliance.recipe import Decode
from runtime.kernels.decoding import decoded, picture_size
from tests.fuzz.mutating import fuzzed, mutants, refused_or_taken, saved

PIXELS = np.random.default_rng(1).integers(0, 256, (9, 14, 3), dtype=np.uint8)
STEPS = [
    Decode(channels=channels, order="RGB", orientation=turned, pixels_max=10_000)
    for channels in (1, 3)
    for turned in ("apply", "ignore")
]


def _file(form: str, mode: str = "RGB", **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).convert(mode).save(file, form, **options)
    return file.getvalue()


def _turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return _file("JPEG", exif=exif)


PNGS = [_file("PNG"), _file("PNG", "P"), _file("PNG", "LA"), _file("PNG", "1")]
HONEST = [*PNGS, _file("JPEG"), _file("JPEG", "L"), _file("JPEG", progressive=True), _turned()]


def _decoded(data: bytes) -> None:
    for step in STEPS:
        refused_or_taken(partial(_pixels, step), data)


def _pixels(step: Decode, data: bytes) -> None:
    height, width = picture_size(data, step)
    assert height * width <= step.pixels_max
    assert decoded(data, step).shape == (height, width, step.channels)


@fuzzed
@given(mutants(HONEST) | st.binary(max_size=64).map(lambda tail: HONEST[0][:33] + tail))
def test_any_picture_is_decoded_or_refused(data: bytes) -> None:
    _decoded(data)


@fuzzed
@given(st.sampled_from(PNGS), st.data())
def test_any_chunk_with_a_right_checksum_is_decoded_or_refused(
    png: bytes, data: st.DataObject
) -> None:
    """Flipped bits in a PNG mostly end at the checksum: here it is made anew."""
    chunks = []
    at = 8
    while at < len(png):
        (length,) = struct.unpack_from(">I", png, at)
        chunks.append((png[at + 4 : at + 8], png[at + 8 : at + 8 + length]))
        at += 12 + length
    kinds = [
        b"IHDR",
        b"PLTE",
        b"tRNS",
        b"IDAT",
        b"iCCP",
        b"zTXt",
        b"iTXt",
        b"eXIf",
        b"acTL",
        b"fcTL",
    ]
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(chunks) - 1))
        kind, body = chunks[place]
        if data.draw(st.booleans()):
            chunks[place] = (kind, data.draw(mutants([body])))
        else:
            extra = data.draw(
                st.binary(max_size=40) | st.just(b"k\0\0" + zlib.compress(bytes(9_000_000)))
            )
            chunks.insert(place, (data.draw(st.sampled_from(kinds)), extra))
    made = png[:8] + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )
    _decoded(made)


@pytest.mark.parametrize("path", saved("pictures"), ids=lambda path: path.name)
def test_saved_cases(path: Path) -> None:
    _decoded(path.read_bytes())
