"""How a serving run is shown: tables, a plot in the terminal, and the same plot as SVG.

Knows: rich, plotext, and a small SVG by jinja2. Rules: HTTP-JSON peers stand in the tables, marked, and never
in the plot. Leaves to others: every figure (`serving`, `goals`).
"""

import sys
from math import log
from pathlib import Path
from statistics import median

import goals
import jinja2
import plotext
from loads import CPP, DURABLE, PLAIN
from rich.console import Console
from rich.table import Table
from rounds import ANSWERED_MIN, PARTS

SVG = """<svg xmlns="http://www.w3.org/2000/svg" width="760" height="{{ 60 + 22 * bars|length }}" \
font-family="sans-serif" font-size="12">
<rect width="100%" height="100%" fill="white"/>
<text x="10" y="20" font-size="14">Requests a second: Holdfast over each server, same load, same run \
(log scale, median of {{ rounds }} rounds)</text>
{% for bar in bars %}{% set y = 36 + 22 * loop.index0 %}
<text x="330" y="{{ y + 13 }}" text-anchor="end">{{ bar.label }}</text>
<rect x="{{ bar.x }}" y="{{ y }}" width="{{ bar.width }}" height="16" \
fill="{{ '#2a7' if bar.value >= 1 else '#c63' }}"/>
<text x="{{ bar.end + 4 }}" y="{{ y + 13 }}">{{ '%.2f'|format(bar.value) }}</text>
{% endfor %}
<line x1="{{ one }}" y1="30" x2="{{ one }}" y2="{{ 40 + 22 * bars|length }}" stroke="#333"/>
</svg>
"""
LEFT, WIDTH = 340, 360
WIDTH_PIPED = 130


def show(result: dict, plot: Path) -> None:
    """Print everything and write the plot."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH_PIPED)
    console.print(f"load: {result['load']}", markup=False)
    for load in dict.fromkeys(row["load"] for row in result.get("rows", [])):
        console.print(load_table(result, load))
    if result.get("rows"):
        console.print(parts_table(result))
    for name, found in result.get("bare", {}).items():
        rates = {key: median(found[key]) for key in ("one_thread", "both_cores")}
        console.print(
            f"bare {name}: {rates['one_thread']:.4g} rows/s on one thread, "
            f"{rates['both_cores']:.4g} with {found['best']}", markup=False,
        )  # fmt: skip
    for name, server in result.get("servers", {}).items():
        console.print(
            f"{name}: {server['settings'] or 'defaults'}; up in {server['started_s']:.1f} s, "
            f"{server['memory_mb']:.0f} MB", markup=False,
        )  # fmt: skip
    for name in ("start", "million", "records"):
        if name in result:
            console.print(f"{name}: {result[name]}", markup=False)
    goals.show(result, console)
    for sentence in result["left_out"]:
        console.print(f"not measured: {sentence}", markup=False)
    if bars := ratios(result):
        plotted(bars)
        plot.write_text(svg(bars, result["rounds"]))
        print(f"plot written to {plot}")


def load_table(result: dict, load: str) -> Table:
    """One load: every server's medians, and its rate as a share of ours."""
    columns = (
        "server", "req/s", "holdfast is", "p50 ms", "p99 ms", "server us/req", "load us/req", "others",
    )  # fmt: skip
    table = Table(*columns, title=load)
    figures = goals.Figures(result)
    for row in result["rows"]:
        if row["load"] != load:
            continue
        name, windows = row["server"], row["windows"]
        mid = {
            key: median(window[key] for window in windows)
            for key in windows[0]
            if key != "parts_us"
        }
        ratio = figures.ratio(load, DURABLE, name)
        mark = "" if result["servers"][name]["headline"] else " (HTTP-JSON)"
        if (right := min(window["answered"] for window in windows)) < ANSWERED_MIN:
            mark += f" ({1 - right:.0%} wrong)"
        table.add_row(
            name + mark, f"{mid['rate']:.5g}", "" if ratio is None else f"{ratio:.2f}x",
            f"{mid['p50_ms']:.3g}", f"{mid['p99_ms']:.3g}", f"{mid['server_us']:.0f}",
            f"{mid['client_us']:.0f}", f"{mid['other_share']:.2f}",
        )  # fmt: skip
    return table


def parts_table(result: dict) -> Table:
    """The share of each part in a mean request, by our server's own statistics."""
    table = Table("load", "server", *PARTS, title="share of each part in a mean request")
    for row in result["rows"]:
        found = [window["parts_us"] for window in row["windows"] if window["parts_us"]]
        if found:
            mean = {part: median(parts[part] for parts in found) for part in PARTS}
            whole = sum(mean.values()) or 1.0
            shares = (f"{value / whole:.0%}" for value in mean.values())
            table.add_row(row["load"], row["server"], *shares)
    return table


def ratios(result: dict) -> list[tuple[str, float]]:
    """Our rate over each gRPC server's, by load."""
    figures, found = goals.Figures(result), []
    for row in result.get("rows", []):
        server = result["servers"][row["server"]]
        if server["ours"] or not server["headline"] or row["server"] in (CPP, PLAIN):
            continue
        ratio = figures.ratio(row["load"], DURABLE, row["server"])
        if ratio is not None:
            found.append((f"{row['load']} / {row['server']}", ratio))
    return found


def plotted(bars: list[tuple[str, float]]) -> None:
    """The plot in the terminal."""
    names, values = zip(*bars, strict=True)
    plotext.simple_bar(list(names), list(values), width=100, title="holdfast over each, req/s")
    text = plotext.build()
    print(text if sys.stdout.isatty() else plotext.uncolorize(text))


def svg(bars: list[tuple[str, float]], rounds: int) -> str:
    """The plot as SVG: bars from 1 to the right where ours is faster, to the left where it is slower."""
    values = [value for _, value in bars]
    low, high = min(0.5, *values), max(2.0, *values)

    def at(value: float) -> float:
        return LEFT + WIDTH * (log(value) - log(low)) / (log(high) - log(low))

    one = at(1.0)
    drawn = [
        {
            "label": label, "value": value, "x": f"{min(at(value), one):.1f}",
            "width": f"{abs(at(value) - one):.1f}", "end": max(at(value), one),
        }
        for label, value in bars
    ]  # fmt: skip
    template = jinja2.Environment(autoescape=True).from_string(SVG)
    return template.render(bars=drawn, one=f"{one:.1f}", rounds=rounds)
