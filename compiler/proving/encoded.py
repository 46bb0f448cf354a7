"""Encoded pictures disturbed: decoded as the recipe does it, changed, and sent as PNG, which loses nothing.

Knows: the least PNG file there can be. Rules: what the recipe decodes of the file made here is what was put
in, whatever its `order` and `orientation`. Leaves to others: decoding (`runtime.kernels.decoding`), the
formulas (`disturbances`).

Format: PNG, third edition (W3C, 2025): signature, IHDR, one IDAT with unfiltered lines, IEND.
"""

import struct
import zlib
from collections.abc import Iterator

import numpy as np

from appliance.fitting import sent_specs
from appliance.manifest import Disturbance
from appliance.recipe import Accepts, Decode, Recipe
from appliance.tensors import Array, Interface
from compiler.proving.disturbances import Form, Spread, changed, spread
from runtime.kernels.decoding import decoded, picture_size

_COLOUR_TYPES = {1: 0, 3: 2, 4: 6}  # by channels: grey, colour, colour and alpha


def decode_steps(recipe: Recipe, engine: Interface) -> dict[str, Decode]:
    """The decode step of each served input that is an encoded picture, by name."""
    items = [(recipe.input_for(spec.name), spec) for spec in engine.inputs]
    return {
        sent.name: step
        for item, spec in items
        if item is not None and item.accepts is not Accepts.PREPARED
        for step in item.steps[:1]
        if isinstance(step, Decode)
        for sent in sent_specs(item, spec)
    }


def values_a_row(rows: Array, step: Decode) -> int:
    """How many values the first of the pictures `rows` (rows, 1) decodes to."""
    height, width = picture_size(bytes(rows[0, 0]), step)
    return height * width * step.channels


def spread_of_pictures(rows: Array, step: Decode) -> Spread:
    """The spread of all pixels of the pictures `rows` (rows, 1)."""
    pixels = np.concatenate([picture.ravel() for picture in _pictures(rows, step)])
    return spread(pixels, Form.IMAGE)


def changed_pictures(
    rows: Array,
    step: Decode,
    disturbance: Disturbance,
    found: Spread,
    rng: np.random.Generator,
    *,
    first: int,
) -> Array:
    """The pictures `rows` (rows, 1) disturbed, as PNG files; `first` is the number of their first row."""
    made = np.empty_like(rows)
    for at, picture in enumerate(_pictures(rows, step)):
        other = changed(picture[None], disturbance, found, rng, first=first + at)
        made[at, 0] = png(other[0])
    return made


def png(pixels: Array) -> bytes:
    """A PNG file of UINT8 `pixels` (height, width, 1, 3 or 4 channels)."""
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOUR_TYPES[channels], 0, 0, 0)
    lines = np.zeros(
        (height, 1 + width * channels), np.uint8
    )  # each begins with its filter, 0: none
    lines[:, 1:] = pixels.reshape(height, -1)
    body = zlib.compress(lines.tobytes(), 1)
    chunks = ((b"IHDR", header), (b"IDAT", body), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    check = zlib.crc32(data, zlib.crc32(name))
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", check)


def _pictures(rows: Array, step: Decode) -> Iterator[Array]:
    """Pixels in the order of a PNG file, UINT8 (height, width, channels)."""
    for row in rows:
        yield decoded(bytes(row[0]), step)[..., : step.channels]
