"""The report of `make gpu-check`, as JSON and as Markdown.

Knows: the form of both. Rules: what was not run stands there with its reason; a device has one report, the newest, and
one for each choice of sections that were run alone, which takes nothing from the whole one's. Leaves to
others: the README's table, which is made from the JSON (`docs/generate.py`).
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from tests.hardware.checks.outcome import Outcome

FORMAT = 1


def write(
    folder: Path, box: dict[str, Any], outcomes: Sequence[Outcome], only: Sequence[str] = ()
) -> Path:
    """Write both files of the device in `box`, of all sections or `only` some; returns the Markdown's path."""
    folder.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^a-z0-9]+", "-", " ".join([box["device"], *only]).lower()).strip("-")
    told = {"format": FORMAT, **box, "sections": msgspec.to_builtins(list(outcomes))}
    (folder / f"{name}.json").write_text(json.dumps(told, indent=2) + "\n")
    path = folder / f"{name}.md"
    path.write_text(markdown(box, outcomes))
    return path


def markdown(box: dict[str, Any], outcomes: Sequence[Outcome]) -> str:
    """The report for people."""
    capability = ".".join(map(str, box["capability"]))
    cuda = f"{box['cuda'] // 1000}.{box['cuda'] % 1000 // 10}"
    lines = [
        f"# {box['device']}",
        "",
        f"`make gpu-check` on {box['date'][:10]}: compute capability {capability}, driver {box['driver'] or 'unknown'} "
        f"(CUDA {cuda}), TensorRT {box['tensorrt'] or 'not installed'}, Python {box['python']}.",
        "",
        "| section | what | state | seconds |",
        "|---|---|---|---|",
    ]
    lines += [f"| {o.section} | {o.about} | {o.state} | {o.seconds:.1f} |" for o in outcomes]
    for outcome in outcomes:
        if not outcome.figures and not outcome.why:
            continue
        lines += ["", f"## {outcome.section}", ""]
        if outcome.why:
            lines += [outcome.why, ""]
        if outcome.figures:
            lines += ["| figure | value | goal |", "|---|---|---|"]
        for figure in outcome.figures:
            verdict = {True: ", met", False: ", **missed**", None: ""}[figure.met]
            value = f"{figure.value:,.4g} {figure.unit}".strip()
            lines.append(f"| {figure.name} | {value} | {figure.goal}{verdict} |")
    return "\n".join(lines) + "\n"
