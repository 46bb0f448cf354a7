"""A payload's inputs as a person sees them: pictures, tables, files.

Knows: which tensors are pictures, drawn with Pillow, and which are tables. Rules: pixels of UINT8 are shown as
they were sent, all other values from the least (black) to the largest (white), which is said; a file that a
client sent is written as it is. Leaves to others: which payload (`tui.commands.payload`).
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from appliance.audit.payload import Tensor
from appliance.tensors import Array
from runtime.client.tensors import array_from_raw
from tui import wording

_CHANNELS = (1, 3, 4)
_SIDE_MIN = 4  # what is smaller is a table of numbers
_FILES = {b"\xff\xd8\xff": "jpg", b"\x89PNG\r\n\x1a\n": "png"}
_GREYS = " .:-=+*#%@"
_DRAWN_CELLS = 48
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """One thing to look at: a file's name and bytes, its lines for a terminal, and what to know of it."""

    name: str
    data: bytes
    lines: tuple[str, ...]
    remark: str


def views_of(inputs: Sequence[Tensor], columns: Mapping[str, Sequence[str]]) -> tuple[View, ...]:
    """The inputs as pictures, files and tables; `columns` names the columns of tables, by input.

    Inputs of one value a row stand together in one table.
    """
    views, single = [], dict[str, Array]()
    for tensor in inputs:
        array = array_from_raw(tensor.name, tensor.datatype, tensor.shape, tensor.data)
        drawn = _files(tensor.name, array) or _pictures(tensor.name, array)
        if drawn:
            views += drawn
        elif array.ndim <= 1 or array.shape[1:] == (1,):
            single[tensor.name] = array.reshape(-1)
        else:
            views.append(_table(tensor, array, columns.get(tensor.name, ())))
    if single:
        rows = max(len(column) for column in single.values())
        cells = [
            [_text(column[row]) if row < len(column) else "" for column in single.values()]
            for row in range(rows)
        ]
        views.append(_csv("row", list(single), cells, f"{rows} x {len(single)} values"))
    return tuple(views)


def _files(name: str, array: Array) -> list[View]:
    """A view for each element when all are picture files."""
    if array.dtype != np.object_:
        return []
    items = array.reshape(-1).tolist()
    kinds = [
        next((kind for head, kind in _FILES.items() if item.startswith(head)), "") for item in items
    ]
    if not items or not all(kinds):
        return []
    return [
        View(
            name=f"{name}-{row}.{kind}",
            data=item,
            lines=_drawn_file(item),
            remark=f"{len(item):,} bytes, as they were sent",
        )
        for row, (item, kind) in enumerate(zip(items, kinds, strict=True))
    ]


def _pictures(name: str, array: Array) -> list[View]:
    """A view for each picture in (rows, height, width, channels), (rows, channels, height, width) or without rows."""
    if array.dtype.kind not in "uif" or array.ndim not in (3, 4):
        return []
    stack = array if array.ndim == 4 else array[None]
    if stack.shape[3] not in _CHANNELS and stack.shape[1] in _CHANNELS:
        stack = stack.transpose(0, 2, 3, 1)
    if stack.shape[3] not in _CHANNELS or min(stack.shape[1:3]) < _SIDE_MIN:
        return []
    plain = stack.dtype == np.uint8
    height, width, channels = stack.shape[1:]
    remark = f"{width} x {height} pixels, {wording.plural(channels, 'channel')}" + (
        "" if plain else ", from the least value (black) to the largest (white)"
    )
    views = []
    for row, pixels in enumerate(stack):
        shown = pixels if plain else _stretched(pixels)
        picture = Image.fromarray(
            np.ascontiguousarray(shown[:, :, 0] if channels == 1 else shown), _MODES[channels]
        )
        written = io.BytesIO()
        picture.save(written, "PNG")
        views.append(
            View(
                name=f"{name}-{row}.png",
                data=written.getvalue(),
                lines=_drawn(picture),
                remark=remark,
            )
        )
    return views


def _stretched(pixels: Array) -> Array:
    finite = pixels[np.isfinite(pixels)].astype(np.float64)
    low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    scaled = (pixels.astype(np.float64) - low) * (255.0 / (high - low) if high > low else 0.0)
    shown: Array = np.nan_to_num(scaled, nan=0.0, posinf=255.0, neginf=0.0)
    return shown.clip(0, 255).round().astype(np.uint8)


def _drawn_file(data: bytes) -> tuple[str, ...]:
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return _drawn(picture.convert("RGB"))
    except (OSError, ValueError, Image.DecompressionBombError):
        return ()  # it was sent so: what is kept is the evidence, readable or not


def _drawn(picture: Image.Image) -> tuple[str, ...]:
    """The picture in grey letters, two to a pixel, at most _DRAWN_CELLS wide."""
    grey = picture.convert("L")
    width = min(grey.width, _DRAWN_CELLS // 2)
    height = max(1, round(grey.height * width / grey.width))
    small = np.asarray(grey.resize((width, height), Image.Resampling.BOX))
    shades = small.astype(int) * len(_GREYS) // 256
    return tuple("".join(_GREYS[shade] * 2 for shade in line) for line in shades)


def _table(tensor: Tensor, array: Array, columns: Sequence[str]) -> View:
    flat = array.reshape(len(array), -1) if array.size else array.reshape(len(array), 0)
    named = columns if len(columns) == flat.shape[1] else [str(n) for n in range(flat.shape[1])]
    cells = [[_text(value) for value in row] for row in flat]
    shape = " x ".join(map(str, tensor.shape))
    return _csv(tensor.name, list(named), cells, f"{tensor.datatype} {shape}")


def _csv(name: str, columns: list[str], rows: list[list[str]], remark: str) -> View:
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    text = written.getvalue()
    return View(
        name=f"{name}.csv", data=text.encode(), lines=tuple(text.splitlines()), remark=remark
    )


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return f"{value:.9g}" if isinstance(value, float | np.floating) else str(value)
