"""`make bench` and `make bench-peers`: kernels, codec, engines and serving, each against the best to compare with.

Ratios are the result: absolute figures drift on a shared machine. Prints tables, and writes all figures to
build/bench.json and the plot beside it. With `--only` any parts: kernels, codec, engines, serving (all that it does
by default), one of its parts (echo, mlp, cnn, resnet50, bert, picture, poisson, start), and two that
are measured only when named: lanes (lanes by threads) and million (memory over a million requests).
"""

import argparse
import json
import os
import platform
from pathlib import Path

import codec
import engines
import figures
import kernels
import loads
import serving
from competitors import PEERS
from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

# onnxruntime's Linux wheels look up a telemetry host unless this is set before the import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
PEER_PARTS = ("echo", "mlp", "cnn", "resnet50")


def main() -> None:
    """Measure and report."""
    options = parse()
    report = {"machine": machine(), **measured(options)}
    options.output.parent.mkdir(exist_ok=True)
    options.output.write_text(json.dumps(report, indent=1) + "\n")
    for part, module in (("kernels", kernels), ("codec", codec), ("engines", engines)):
        if part in report:
            module.show(report[part])
    if "serving" in report:
        figures.show(report["serving"], options.output.with_suffix(".svg"))
    print(f"written to {options.output}")


def parse() -> argparse.Namespace:
    """Read the options."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("kernels", "codec", "engines", "serving", *loads.PARTS, *loads.MORE_PARTS)
    parser.add_argument("--only", nargs="+", choices=parts, help="these parts and no others")
    parser.add_argument(
        "--peers", action="store_true", help="the peers that are installed take part"
    )
    parser.add_argument("--rounds", type=int, default=3, help="of serving")
    parser.add_argument("--callers", type=int, nargs="+", default=list(loads.CALLERS))
    parser.add_argument(
        "--scale", type=float, default=1.0, help="a factor on every window of serving"
    )
    parser.add_argument(
        "--keep", action="store_true", help="built models as they stand, whatever changed"
    )
    parser.add_argument("--quick", action="store_true", help="engines of the digits model only")
    parser.add_argument("--output", type=Path, default=Path("build/bench.json"))
    return parser.parse_args()


def measured(options: argparse.Namespace) -> dict[str, object]:
    """Every part's figures by its name."""
    default = ("serving",) if options.peers else ("kernels", "codec", "engines", "serving")
    wanted = tuple(options.only or default)
    whole = PEER_PARTS if options.peers else loads.PARTS
    served = tuple(part for part in (*loads.PARTS, *loads.MORE_PARTS) if part in wanted)
    served = served or (whole if "serving" in wanted else ())
    columns = (*Progress.get_default_columns(), TimeElapsedColumn())
    found: dict[str, object] = {}
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def bar(name: str, steps: int) -> object:
            task = progress.add_task(name, total=steps)
            return lambda: progress.advance(task)

        if "kernels" in wanted:
            found["kernels"] = kernels.run(advance=bar("kernels", len(kernels.cases())))
        if "codec" in wanted:
            found["codec"] = codec.run()
        if "engines" in wanted:
            names = engines.names(quick=options.quick)
            found["engines"] = engines.run(quick=options.quick, advance=bar("engines", len(names)))
        if served:
            asked = loads.Options(
                parts=served, rounds=options.rounds, callers=tuple(options.callers),
                scale=options.scale, keep=options.keep, peers=tuple(PEERS) if options.peers else (),
            )  # fmt: skip
            found["serving"] = serving.run(asked, bar=bar)
    return found


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    model = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")), "unknown",
    )  # fmt: skip
    return {"cpu": model, "cores": os.cpu_count(), "python": platform.python_version()}


if __name__ == "__main__":
    main()
