"""The selftest's report: Markdown to be pasted, values for scripts.

Knows: both forms. Rules: they say the same; it holds versions, device names, settings and figures, and nothing of whose box
it is. Leaves to others: finding.
"""

from collections.abc import Iterator
from typing import Any

import msgspec

from appliance.commands import printable
from appliance.proof import Inspected
from compiler.report.text import bytes_text
from compiler.selftest.findings import Figure, Findings, Tried


def values(found: Findings) -> dict[str, Any]:
    """The report for scripts."""
    told: dict[str, Any] = msgspec.to_builtins(found)
    return told | {"right": found.right, "figures": msgspec.to_builtins(found.figures)}


def markdown(found: Findings) -> str:
    """The report to be pasted into an issue."""
    return printable("\n".join(_lines(found))) + "\n"


def _lines(found: Findings) -> Iterator[str]:
    yield f"# Selftest of TensorRT, holdfast {found.release}"
    yield ""
    yield f"**{_verdict(found)}**"
    yield ""
    yield from (f"- {name}: {value}" for name, value in found.box.items())
    yield from (f"- fence missing: {why}" for why in found.missing_fences)
    for tried in found.tried:
        yield from ("", f"## {tried.precision}", "")
        yield from _steps(tried)
        if tried.inspected is not None:
            yield from ("", *_inside(tried.inspected))


def _verdict(found: Findings) -> str:
    if found.trouble:
        return f"not run: {found.trouble}. Remedy: {found.remedy}"
    if found.right:
        return "everything was run and right"
    wrong = [str(item.precision) for item in found.tried if not item.right]
    return f"not all was run or right: {', '.join(wrong)}"


def _steps(tried: Tried) -> Iterator[str]:
    yield "| step | state | seconds | figures |"
    yield "|---|---|---|---|"
    for step in tried.steps:
        told = "; ".join(map(_figure, step.figures)) or _cell(step.why)
        yield f"| {step.name} | {step.state} | {step.seconds:g} | {told} |"


def _figure(figure: Figure) -> str:
    value = (
        bytes_text(int(figure.value))
        if figure.unit == "bytes"
        else f"{figure.value:.4g} {figure.unit}"
    )
    goal = "" if figure.goal is None else f" ({'within' if figure.met else 'over'} {figure.goal:g})"
    return f"{figure.name} {value.strip()}{goal}"


def _inside(item: Inspected) -> Iterator[str]:
    arithmetic = ", ".join(f"{count} in {name}" for name, count in sorted(item.precisions.items()))
    yield f"{item.library}: {item.layers} layers; convolutions and matrix products: {arithmetic}."
    yield from (f"- {note}" for note in item.notes)
    yield from (
        f"- `{_cell(layer.name)}` ({layer.operator}) in {layer.precision}"
        f"{'' if layer.shown else ', by the graph'}: `{layer.tactic or 'no tactic told'}`"
        for layer in item.heavy
    )


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("`", "'")
