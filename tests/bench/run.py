"""`make bench`: kernels, engines and serving, each against the best there is to compare with.

Ratios are the result: absolute figures drift on a shared machine. Prints a table a part and writes all of
them to build/bench.json.
"""

import argparse
import json
import os
import platform
from pathlib import Path

import engines
import kernels
import serving
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn


def main() -> None:
    """Measure and report."""
    options = parse()
    report = {"machine": machine(), "rounds": options.rounds, **measured(options)}
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps(report, indent=2) + "\n")
    kernels.show(report["kernels"])
    engines.show(report["engines"])
    serving.show(report["serving"])
    print(f"written to {options.output}")


def parse() -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3, help="of serving")
    parser.add_argument("--quick", action="store_true", help="the digits model only")
    parser.add_argument("--output", type=Path, default=Path("build/bench.json"))
    return parser.parse_args()


def measured(options: argparse.Namespace) -> dict[str, object]:
    """Every part's figures by its name."""
    columns = (*Progress.get_default_columns(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def bar(name: str, steps: int) -> object:
            task = progress.add_task(name, total=steps)
            return lambda: progress.advance(task)

        return {
            "kernels": kernels.run(advance=bar("kernels", len(kernels.cases()))),
            "engines": engines.run(
                quick=options.quick,
                advance=bar("engines", len(engines.names(quick=options.quick))),
            ),
            "serving": serving.run(
                options.rounds,
                quick=options.quick,
                advance=bar("serving", serving.windows(options.rounds, quick=options.quick)),
            ),
        }


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")), "unknown",
    )  # fmt: skip
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version()}


if __name__ == "__main__":
    main()
