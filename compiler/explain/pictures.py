"""Picture sheets: what a row looks like after each step, and what the engine sees of many rows.

Knows: the layout of a sheet, drawn with Pillow. Rules: small images are enlarged by whole factors, pixel by pixel, so
that one sees what is there; every tile names its step, shape and range. Leaves to others: how a tensor
becomes pixels (`pixels`).
"""

import io

from PIL import Image, ImageDraw, ImageFont

from appliance.commands import printable
from appliance.recipe import Recipe
from appliance.tensors import Interface
from compiler.explain import Explanation, Rows, Stage, engine_stage
from compiler.explain.pixels import Pixels, pixels
from compiler.explain.words import parameters_text, range_text, shape_text, stage_name

SIDE = 232  # pixels of a tile's picture
GAP, CAPTION = 12, 80
TILES_A_LINE = 5
LEGEND = (
    "UINT8 images are shown as they are, all other values from the least (black) to the largest (white); "
    "NaN and infinities are magenta."
)
VIEW_ROWS, VIEW_SIDE, VIEW_A_LINE = 12, 128, 6
PAPER, CARD, EDGE, INK, FAINT, ACCENT = (
    "#eef0f3", "#ffffff", "#cfd5dd", "#1d2733", "#5f6b7a", "#1f6feb",
)  # fmt: skip


def sheet(explanation: Explanation) -> bytes | None:
    """A PNG with a tile for each stage of each input that is an image or a signal; None without any."""
    drawn = [
        item
        for item in explanation.inputs
        if any(pixels(stage) is not None for stage in item.stages)
    ]
    if not drawn:
        return None
    strips = []
    for item in drawn:
        last = len(item.stages) - 1
        tiles = [_tile(at, stage, last=at == last) for at, stage in enumerate(item.stages)]
        title = f"{item.feeds}, row {explanation.row}"
        lines = -(-len(tiles) // TILES_A_LINE)
        strips.append(_titled(title, _grid(tiles, -(-len(tiles) // lines))))
    return _png(_stacked([*strips, _note(strips[0].width)]))


def engine_view(recipe: Recipe, engine: Interface, rows: Rows) -> bytes | None:
    """A PNG of what the engine gets of the first rows, its first input that is an image; None without one.

    rows: as clients send them, by name, each (rows, ...).
    """
    count = min(len(next(iter(rows.values()), ())), VIEW_ROWS)
    for spec in engine.inputs:
        if count and _looks(engine_stage(recipe, spec, rows, 0)):
            stages = [engine_stage(recipe, spec, rows, row) for row in range(count)]
            tiles = [_small_tile(row, stage) for row, stage in enumerate(stages)]
            return _png(_stacked([_grid(tiles, VIEW_A_LINE)]))
    return None


def _looks(stage: Stage) -> bool:
    return stage.array.ndim > 1 and pixels(stage) is not None


def _tile(at: int, stage: Stage, *, last: bool) -> Image.Image:
    """A stage's card: its picture, or its size where it has none, above what is known of it."""
    card = _card(SIDE, CAPTION, ACCENT if last else EDGE)
    shown = pixels(stage)
    if shown is None:
        text = f"{sum(len(value) for value in stage.array.ravel())} bytes"
        ImageDraw.Draw(card).text((SIDE / 2, SIDE / 2), text, FAINT, _font(14), anchor="mm")
    else:
        _place(card, shown, SIDE)
    draw = ImageDraw.Draw(card)
    name = stage_name(at, stage)
    told = f"{name}: what the engine gets" if last else name
    lines = [(told, 14, ACCENT if last else INK)]
    texts = (shape_text(stage), range_text(stage), parameters_text(stage))
    lines += [(text, 12, FAINT) for text in texts]
    top = GAP + SIDE + 8
    for text, size, colour in lines:
        draw.text((GAP, top), _fitting(text, _font(size), SIDE), colour, _font(size))
        top += size + 6
    return card


def _small_tile(row: int, stage: Stage) -> Image.Image:
    card = _card(VIEW_SIDE, 20, EDGE)
    shown = pixels(stage)
    if shown is not None:
        _place(card, shown, VIEW_SIDE)
    place = (GAP, GAP + VIEW_SIDE + 6)
    text = f"row {row}: {range_text(stage).split(',')[0]}"
    ImageDraw.Draw(card).text(place, _fitting(text, _font(11), VIEW_SIDE), FAINT, _font(11))
    return card


def _card(side: int, caption: int, edge: str) -> Image.Image:
    size = (side + 2 * GAP, side + 2 * GAP + caption)
    card = Image.new("RGB", size, PAPER)
    box = (0, 0, size[0] - 1, size[1] - 1)
    ImageDraw.Draw(card).rounded_rectangle(box, 6, fill=CARD, outline=edge, width=2)
    return card


def _place(card: Image.Image, shown: Pixels, side: int) -> None:
    """Paste a picture into the middle of the square `side` of a card, as large as fits."""
    image = Image.fromarray(shown)
    factor = side // max(image.size)
    if factor >= 1:
        grown = (image.width * factor, image.height * factor)
        image = image.resize(grown, Image.Resampling.NEAREST)
    else:
        image.thumbnail((side, side), Image.Resampling.BOX)
    left, top = (side - image.width) // 2, (side - image.height) // 2
    card.paste(image, (GAP + left, GAP + top))
    frame = (GAP + left - 1, GAP + top - 1, GAP + left + image.width, GAP + top + image.height)
    ImageDraw.Draw(card).rectangle(frame, outline=EDGE)


def _grid(tiles: list[Image.Image], a_line: int) -> Image.Image:
    width, height = tiles[0].size
    columns, lines = min(len(tiles), a_line), -(-len(tiles) // a_line)
    grid = Image.new("RGB", (columns * (width + GAP) - GAP, lines * (height + GAP) - GAP), PAPER)
    for at, tile in enumerate(tiles):
        grid.paste(tile, ((at % a_line) * (width + GAP), (at // a_line) * (height + GAP)))
    return grid


def _titled(title: str, strip: Image.Image) -> Image.Image:
    head = 34
    titled = Image.new("RGB", (strip.width, strip.height + head), PAPER)
    titled.paste(strip, (0, head))
    text = _fitting(title, _font(18), strip.width)
    ImageDraw.Draw(titled).text((0, 2), text, INK, _font(18))
    return titled


def _note(width: int) -> Image.Image:
    """How to read the pictures; over several lines where it is wider than they are."""
    lines, font = [""], _font(11)
    for word in LEGEND.split():
        if lines[-1] and font.getlength(f"{lines[-1]} {word}") > width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    note = Image.new("RGB", (width, 16 * len(lines)), PAPER)
    ImageDraw.Draw(note).multiline_text((0, 0), "\n".join(lines), FAINT, font)
    return note


def _stacked(strips: list[Image.Image]) -> Image.Image:
    """The strips one below the other, with a margin all round."""
    width = max(strip.width for strip in strips) + 4 * GAP
    height = sum(strip.height + 2 * GAP for strip in strips) + 2 * GAP
    page, top = Image.new("RGB", (width, height), PAPER), 2 * GAP
    for strip in strips:
        page.paste(strip, (2 * GAP, top))
        top += strip.height + 2 * GAP
    return page


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> str:
    """`text` on one line, cut where it is wider than `width` pixels."""
    text = printable(" ".join(text.split()))
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "...") > width:
        text = text[:-1]
    return text + "..."


def _png(page: Image.Image) -> bytes:
    file = io.BytesIO()
    page.save(file, "PNG", optimize=True)
    return file.getvalue()
