"""Write the tables of docs/ that follow from the code, or check that they are fresh.

Knows: which table stands in which document, between `<!-- generated: NAME -->` and `<!-- end -->`. Rules:
a table is made from the very objects that the programs use. Leaves to others: every other sentence.
"""

import argparse
import ast
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec
import typer

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path[:0] = [str(ROOT), str(DOCS)]

import gpu_runs  # noqa: E402

from appliance import errors, exits, manifest, recipe  # noqa: E402
from appliance.config import Config, Section  # noqa: E402
from appliance.tensors import AxisRange, TensorSpec  # noqa: E402
from compiler import cli as compile_cli  # noqa: E402
from compiler import spec  # noqa: E402
from runtime.interceptors import status_code  # noqa: E402
from runtime.services.control import ControlService  # noqa: E402
from runtime.services.infer import InferCalls  # noqa: E402
from runtime.services.protocol import FAMILIES, SERVICE, names  # noqa: E402
from tui import cli as operator_cli  # noqa: E402

Rows = list[tuple[str, ...]]
REGION = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
SHIPPED = ROOT / "packaging" / "holdfast.toml"


def main() -> int:
    """Write every document, or with --check return 1 when one is not fresh."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, only compare")
    check = parser.parse_args().check
    stale = 0
    for path in (ROOT / "README.md", *sorted(DOCS.glob("*.md"))):
        text = path.read_text("utf-8")
        fresh = REGION.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], text)
        if fresh != text and check:
            print(f"{path.relative_to(ROOT)} is not fresh: run `make docs`", file=sys.stderr)
            stale = 1
        elif fresh != text:
            path.write_text(fresh, "utf-8")
    return stale


def settings() -> str:
    """Every setting with its default, its bound and its description."""
    described, rows = descriptions(SHIPPED.read_text()), Rows()
    for name, field in each_setting(Config):
        plain = field.default is not msgspec.NODEFAULT
        default = msgspec.json.encode(field.default if plain else field.default_factory()).decode()
        rows.append((f"`{name}`", f"`{default}`", bound(field.type), described[name]))
    return table(("setting", "default", "bound", "what it is"), rows)


def each_setting(section: type[Section], before: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting's name, with its sections and dots between, and its field."""
    for field in msgspec.structs.fields(section):
        name = f"{before}{field.name}"
        if isinstance(field.default, Section):
            yield from each_setting(type(field.default), f"{name}.")
        else:
            yield name, field


def descriptions(shipped: str) -> dict[str, str]:
    """The comment above each setting of a TOML file, by `section.key`."""
    found: dict[str, str] = {}
    section, comment = "", list[str]()
    for line in shipped.splitlines():
        if line.startswith("#"):
            comment.append(line.removeprefix("#").strip())
            continue
        if line.startswith("["):
            section = line.strip("[]")
        elif "=" in line:
            found[f"{section}.{line.split('=')[0].strip()}"] = " ".join(comment)
        comment = []
    return found


def bound(kind: Any) -> str:
    """The bound of an annotated number in words, or what may be chosen; empty for text."""
    if get_origin(kind) is Literal:
        return " or ".join(f'`"{choice}"`' for choice in get_args(kind))
    for note in getattr(kind, "__metadata__", ()):
        if note.ge is not None:
            return f"at least {note.ge}"
        if note.gt is not None:
            return f"more than {note.gt:g}"
    return ""


def error_codes() -> str:
    """Every error code with its meaning, exit code and gRPC status."""
    rows = [
        (
            f"`{kind.code}`",
            summary(kind),
            str(exits.exit_code(kind("", remedy=""))),
            status_code(kind("", remedy="")).name,
        )
        for kind in kinds(errors.ApplianceError)
    ]
    return table(("code", "what happened", "exit code", "gRPC status"), rows)


def kinds(kind: type[errors.ApplianceError]) -> Iterator[type[errors.ApplianceError]]:
    """`kind` and every error below it, in the order of their definition."""
    yield kind
    for child in kind.__subclasses__():
        yield from kinds(child)


def exit_codes() -> str:
    """Every exit code with the error codes that end in it."""
    meaning = {
        exits.OK: "done",
        exits.UNEXPECTED: "our own mistake, with a traceback",
        exits.USAGE: "a command line that does not parse",
        exits.DRIFT_FOUND: "`holdfast drift check` found drift",
        exits.GOAL_MISSED: "`holdfast tune` found no setting that meets the goal",
        exits.TROUBLE_FOUND: "`holdfast doctor` found trouble",
        exits.INTERRUPTED: "stopped by Ctrl-C",
        exits.BROKEN_PIPE: "whoever read the output stopped reading",
    }
    for kind in kinds(errors.ApplianceError):
        code = exits.exit_code(kind("", remedy=""))
        if code != exits.UNEXPECTED:
            meaning[code] = (
                f"{meaning[code]}, `{kind.code}`" if code in meaning else f"`{kind.code}`"
            )
    return table(("exit code", "meaning"), [(str(code), meaning[code]) for code in sorted(meaning)])


def events() -> str:
    """Every journal event that the code names, with the room that writes it."""
    rows: set[tuple[str, ...]] = set()
    for package in ("appliance", "runtime", "compiler", "tui"):
        for path in (ROOT / package).rglob("*.py"):
            room = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            rows |= {(f"`{name}`", f"`{room}`") for name in event_names(path.read_text("utf-8"))}
    return table(("event", "written by"), sorted(rows))


def event_names(source: str) -> Iterator[str]:
    """The first argument of each call of journal that writes a line."""
    for node in ast.walk(ast.parse(source)):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("event", "failure", "detail", "change")
            and isinstance(node.func.value, ast.Name)
            and node.func.value.id == "journal"
            and isinstance(node.args[0], ast.Constant)
        ):
            yield str(node.args[0].value)


EXPOSITION = ROOT / "runtime" / "metrics" / "exposition.py"
# What Prometheus adds to the name of a family.
SUFFIXES = {"CounterMetricFamily": "_total", "GaugeMetricFamily": "", "HistogramMetricFamily": ""}


def metrics() -> str:
    """Every metric of the exposition, as Prometheus shows its name."""
    rows = Rows()
    for node in ast.walk(ast.parse(EXPOSITION.read_text("utf-8"))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            suffix = SUFFIXES.get(node.func.id)
            if suffix is not None:
                name, what = (ast.literal_eval(argument) for argument in node.args[:2])
                rows.append((f"`{name}{suffix}`", what))
    return table(("metric", "what it counts"), sorted(rows))


def commands() -> str:
    """Every command of the three programs and what it does."""
    rows = Rows()
    for app in (compile_cli.app, operator_cli.app):
        rows += leaves(typer.main.get_command(app))
    rows.append(("`holdfast-runtime`", "Serve the models of one box until SIGTERM or Ctrl-C."))
    return table(("command", "what it does"), rows)


def leaves(command: Any, *above: str) -> Iterator[tuple[str, str]]:
    """The command itself, or every command below it when it is a group."""
    named = (*above, command.name)
    if not hasattr(command, "commands"):
        yield f"`{' '.join(named)}`", " ".join((command.help or "").split("\n\n")[0].split())
    for child in getattr(command, "commands", {}).values():
        yield from leaves(child, *named)


def inference_calls() -> str:
    """Every call of the inference protocol and what it answers."""
    answers = {"ModelInfer": InferCalls.infer, "ModelStreamInfer": InferCalls.stream}
    for family in FAMILIES:
        answers |= {name: vars(family)[name] for name in names(family)}
    missing = SERVICE.methods_by_name.keys() - answers.keys()
    assert not missing, missing
    return table(
        ("call", "what it answers"),
        [(f"`{name}`", summary(call)) for name, call in answers.items()],
    )


def control_calls() -> str:
    """Every call of the control service and what it answers."""
    own = {name: call for name, call in vars(ControlService).items() if name[0].isupper()}
    return table(
        ("call", "what it answers"), [(f"`{name}`", summary(call)) for name, call in own.items()]
    )


def spec_tables() -> str:
    """Every table of a model spec: what it says, its keys."""
    return "".join(
        section(heading, kind)
        for heading, kind in (
            ("[model]", spec.ModelTable),
            ("[model.axes.NAME]", AxisRange),
            ("[data]", spec.DataTable),
            ("[[acceptance]]", manifest.Acceptance),
            ("[tolerance.PRECISION]", manifest.Tolerance),
            ("[calibration]", spec.CalibrationTable),
            ("[limits]", manifest.Limits),
            ("[[robustness]]", manifest.Disturbance),
            ("[provenance]", manifest.Provenance),
            ("[[recipe.inputs]]", recipe.InputRecipe),
            ("[recipe.inputs.raw]", TensorSpec),
        )
    )


def steps(*kinds: type[recipe.Step]) -> str:
    """Every step of a family: its formula and its keys."""
    return "".join(section(str(kind.__struct_config__.tag), kind) for kind in kinds)


def section(heading: str, kind: type[msgspec.Struct]) -> str:
    """A struct's docstring and the keys that its table in a TOML file has."""
    rows = [
        (f"`{field.encode_name}`", type_words(field.type), default_words(field))
        for field in msgspec.inspect.type_info(kind).fields
    ]
    keys = table(("key", "value", "default"), rows) if rows else ""
    return f"### `{heading}`\n\n{inspect.getdoc(kind)}\n\n{keys}\n"


def default_words(field: Any) -> str:
    """What a key is when it is left out."""
    if field.required:
        return "needed"
    value = field.default if field.default is not msgspec.NODEFAULT else field.default_factory()
    return "" if value in (None, (), {}, "") else f"`{msgspec.json.encode(value).decode()}`"


def type_words(kind: Any) -> str:
    """What may stand in TOML for a type, in words."""
    kinds = msgspec.inspect
    match kind:
        case kinds.LiteralType(values=values):
            return " or ".join(f"`{json_text(value)}`" for value in values)
        case kinds.EnumType(cls=cls):
            return " or ".join(f"`{json_text(member.value)}`" for member in cls)
        case kinds.IntType() | kinds.FloatType():
            what = "whole number" if isinstance(kind, kinds.IntType) else "number"
            bounds = [
                f"{word} {value:g}"
                for word, value in (
                    ("at least", kind.ge),
                    ("more than", kind.gt),
                    ("at most", kind.le),
                    ("below", kind.lt),
                )
                if value is not None and abs(value) < manifest.FP32_MAX
            ]
            return " ".join((what, " and ".join(bounds))).strip()
        case kinds.UnionType(types=types):
            return " or ".join(type_words(each) for each in types if each != kinds.NoneType())
        case kinds.VarTupleType(item_type=item) | kinds.ListType(item_type=item):
            return f"list of {type_words(item)}"
        case kinds.TupleType(item_types=items):
            return f"list of {len(items)}: {', '.join(type_words(each) for each in items)}"
        case kinds.DictType(value_type=value):
            return f"table of {type_words(value)}"
        case kinds.StrType():
            return "text"
        case kinds.BoolType():
            return "`true` or `false`"
        case kinds.StructType(cls=cls):
            tag = cls.__struct_config__.tag
            return f"`{tag}` step" if tag else "table"
    raise AssertionError(kind)


def json_text(value: object) -> str:
    """A value as TOML writes it, which for these is as JSON does."""
    return msgspec.json.encode(value).decode()


def summary(thing: object) -> str:
    """The first paragraph of the docstring of `thing`, on one line."""
    return " ".join((inspect.getdoc(thing) or "").split("\n\n")[0].split())


def table(head: tuple[str, ...], rows: Rows) -> str:
    """A Markdown table with its line end."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "".join(
        f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines
    )


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings,
    "error-codes": error_codes,
    "exit-codes": exit_codes,
    "events": events,
    "commands": commands,
    "metrics": metrics,
    "inference-calls": inference_calls,
    "control-calls": control_calls,
    "spec-tables": spec_tables,
    "image-steps": lambda: steps(recipe.Cast, *get_args(recipe.ImageStep)),
    "table-steps": lambda: steps(*get_args(recipe.TableStep)),
    "signal-steps": lambda: steps(*get_args(recipe.SignalStep)),
    "after-steps": lambda: steps(*get_args(recipe.AfterStep)),
    "gpu-parts": lambda: table(("part of the GPU path", "status"), gpu_runs.parts()),
    "gpu-summary": lambda: table(("part", "status"), gpu_runs.summary()),
    "gpu-goals": lambda: table(("figure", "goal", "measured", "", "where"), gpu_runs.goals()),
}

if __name__ == "__main__":
    sys.exit(main())
