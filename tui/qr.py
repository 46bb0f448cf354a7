"""A text as a QR code for the terminal.

Knows: how two rows of modules share one line. Rules: light modules are drawn and dark ones left out, with a
quiet zone of two, so that it reads on a dark terminal without any colour; the smallest code that holds the
text is taken. Leaves to others: what the text is.
"""

import segno

QUIET_MODULES = 2
_HALVES = {(0, 0): "█", (0, 1): "▀", (1, 0): "▄", (1, 1): " "}


def qr_lines(text: str) -> list[str]:
    """The code of `text` (UTF-8, at most 2,900 bytes) as lines of equal length; ValueError on a longer one."""
    code = segno.make_qr(text, error="l", mode="byte", encoding="utf-8", boost_error=False)
    rows = [tuple(row) for row in code.matrix_iter(border=QUIET_MODULES)]
    if len(rows) % 2:
        rows.append((0,) * len(rows[0]))
    return [
        "".join(_HALVES[bool(upper), bool(lower)] for upper, lower in zip(*pair, strict=True))
        for pair in zip(rows[::2], rows[1::2], strict=True)
    ]
