"""The commands that look and change nothing: check, inspect, explain, report, unpack, installs, selftest.

Knows: their options. Rules: as in `cli`. Leaves to others: what they show.
"""

# ruff: noqa: PLC0415  heavy rooms are imported by the command that needs them
from pathlib import Path
from typing import Annotated

import typer

from appliance.commands import reporting
from appliance.config import load_config
from compiler.options import (
    ConfigOption,
    JsonOption,
    StateOption,
    configure,
    show,
    stored_version,
    version_unless_file,
)


@reporting
def check(
    model: Annotated[Path, typer.Argument(help="The ONNX file.")],
    *,
    json: JsonOption = False,
) -> None:
    """Say what an ONNX file takes and gives, how it treats rows, and what a target could not do."""
    from appliance.config import BuildConfig
    from compiler.acts import Look
    from compiler.child import Confined, Places
    from compiler.pack import beside, workplace
    from compiler.progress import Silent
    from compiler.seen import checkup_lines, checkup_values

    with workplace(None) as scratch:
        places = Places(
            scratch=scratch,
            readable=tuple(beside(model)),
            listable=(model.absolute().parent,),
        )
        ended = Confined(bounds=BuildConfig()).do(Look(model=str(model)), places, Silent())
    seen = ended.result
    show(checkup_values(seen) if json else checkup_lines(seen))


@reporting
def inspect(
    what: Annotated[str, typer.Argument(help="A bundle's file, or MODEL/NUMBER in the store.")],
    *,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a bundle or a stored version says, and whether its signature or files are intact."""
    settings = load_config(config, state=state)
    from compiler import wording
    from compiler.inspection import inspect_bundle

    version = version_unless_file(what, settings)
    if version is not None:
        show(wording.version_values(version) if json else wording.version_lines(version))
        return
    seen = inspect_bundle(Path(what), settings.state.trust)
    show(wording.bundle_values(seen) if json else wording.bundle_lines(seen))


@reporting
def explain(
    what: Annotated[
        str, typer.Argument(help="A model spec (.toml), a bundle, or MODEL/NUMBER in the store.")
    ],
    *,
    row: Annotated[int, typer.Option("--row", min=0, help="Which row of its data.")] = 0,
    png: Annotated[
        Path | None, typer.Option("--png", metavar="FILE", help="Also draw every stage here.")
    ] = None,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Show each tensor between a recipe's steps, and what the engine really gets."""
    settings = configure(config, state)
    from appliance.errors import ConfigError
    from appliance.files import write_file
    from compiler.explain import explain as explained
    from compiler.explain.pictures import sheet
    from compiler.explain.sources import bundle_sample, spec_sample, version_sample
    from compiler.explain.words import explained_lines, explained_values

    version = version_unless_file(what, settings)
    if version is not None:
        sample = version_sample(version)
    elif what.endswith(".toml"):
        sample = spec_sample(Path(what))
    else:
        sample = bundle_sample(Path(what), settings.state.trust)
    explanation = explained(sample.recipe, sample.engine, sample.rows, row)
    if png is not None:
        drawn = sheet(explanation)
        if drawn is None:
            raise ConfigError("no input looks like a picture", remedy="leave --png out")
        write_file(png, drawn)
    show(explained_values(explanation) if json else explained_lines(explanation))


@reporting
def report(
    what: Annotated[str, typer.Argument(help="MODEL/NUMBER in the store.")],
    *,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Copy the page here.")
    ] = None,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Show how a version was proven, and what it was chosen from."""
    settings = load_config(config, state=state)
    from appliance.errors import UnknownVersion
    from appliance.files import write_file
    from compiler.report.text import report_lines, report_values
    from compiler.report.writing import REPORT_HTML

    version = stored_version(what, settings)
    if version is None:
        raise UnknownVersion(
            f"'{what}' names no version", remedy="name it as MODEL/NUMBER, such as digits/2"
        )
    if html is not None:
        write_file(html, (version.directory / REPORT_HTML).read_bytes())
    told = (version.manifest, version.record)
    show(report_values(*told) if json else report_lines(*told))


@reporting
def unpack(
    bundle: Annotated[Path, typer.Argument(help="The bundle, made by pack.")],
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="The new directory to write.")],
    json: JsonOption = False,
) -> None:
    """Take a bundle apart; model.sig in it is what `model_signing verify key` reads."""
    from compiler import unpack as unpacking
    from compiler.wording import unpacked_lines, unpacked_values

    unpacked = unpacking.unpack(bundle, output)
    show(unpacked_values(unpacked) if json else unpacked_lines(unpacked))


@reporting
def installs(
    *,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Show every try to install a bundle here, refused and cut short ones among them."""
    settings = load_config(config, state=state)
    from appliance.installs import Installs
    from appliance.store import Store
    from compiler.trustwords import installs_text, installs_values

    found = Installs(Store(settings.state.store).installs).all()
    show(installs_values(found)) if json else print(installs_text(found))


@reporting
def selftest(
    *,
    gpu: Annotated[bool, typer.Option("--gpu", help="Try TensorRT on the GPU.")] = False,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Build, prove, measure and swap a model of our own here; prints a report for a bug report."""
    settings = configure(config, state)
    from appliance.errors import ConfigError, EngineError, GpuUnusable
    from appliance.exits import exit_code
    from compiler.bars import progress_bars
    from compiler.selftest import telling
    from compiler.selftest.running import selftest as tried

    if not gpu:
        raise ConfigError("it was not said what to try", remedy="say --gpu")
    with progress_bars() as progress:
        found = tried(settings, progress)
    if json:
        show(telling.values(found))
    else:
        print(telling.markdown(found), end="")
    if not found.right:
        kind = GpuUnusable if found.trouble else EngineError
        raise SystemExit(exit_code(kind(found.trouble, remedy=found.remedy)))
