"""holdfast-compile: keygen, pack, build, inspect.

Knows: the command line. Rules: results go to standard output, everything else to standard error; heavy
rooms are imported inside the command that needs them, so that --help is quick, and after Numba's cache
has its place; errors and exit codes are those of `appliance.commands`. Leaves to others: the work.
"""

# ruff: noqa: PLC0415  heavy rooms are imported by the command that needs them
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.commands import reporting
from appliance.config import Config, load_config, use_kernel_cache

if TYPE_CHECKING:
    from compiler.wording import Lines

app = typer.Typer(
    name="holdfast-compile",
    help="Turn a trained ONNX model into a proven version on this box.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

ConfigOption = Annotated[Path | None, typer.Option("--config", help="The configuration file.")]
StateOption = Annotated[
    Path | None, typer.Option("--state", help="The state directory; overrides the file's.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
_VERSION = re.compile(r"([A-Za-z0-9._-]{1,128})/([^/]{1,20})")  # else it is a path


def main() -> None:
    """The entry point of the command."""
    app()


@app.command("keygen")
@reporting
def keygen_command(
    name: Annotated[Path, typer.Argument(help="Where to write NAME.pem and NAME.pub.")],
) -> None:
    """Make a signing key. NAME.pem stays with the engineer, NAME.pub goes to the boxes."""
    from compiler.keygen import generate_key

    files = generate_key(name)
    print(f"private key  {files.private}\npublic key   {files.public}\nkey id       {files.key_id}")


@app.command("pack")
@reporting
def pack_command(
    model: Annotated[Path, typer.Argument(help="The ONNX file.")],
    *,
    spec: Annotated[Path, typer.Option("--spec", help="The model spec, TOML.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The bundle to write.")],
    key: Annotated[Path | None, typer.Option("--key", help="Private key to sign with.")] = None,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Check a model, run its sample through the reference and seal both in a signed bundle."""
    _configure(config, state)
    from appliance.signing import SigningKey
    from compiler import wording
    from compiler.bars import progress_bars
    from compiler.pack import pack, refuse_overwriting

    refuse_overwriting(output, [] if key is None else [key])
    signing_key = None if key is None else SigningKey.load(key)
    with progress_bars() as progress:
        packed = pack(model, spec, output, key=signing_key, progress=progress)
    _print(wording.packed_values(packed) if json else wording.packed_lines(packed))


@app.command("build")
@reporting
def build_command(
    bundle: Annotated[Path, typer.Argument(help="The bundle, made by pack.")],
    *,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Verify a bundle, compile and prove it here, and file it as the model's next version."""
    settings = _configure(config, state)
    from compiler import wording
    from compiler.bars import progress_bars
    from compiler.build import build

    with progress_bars() as progress:
        built = build(bundle, settings, progress=progress)
    _print(wording.built_values(built) if json else wording.built_lines(built))


@app.command("inspect")
@reporting
def inspect_command(
    what: Annotated[str, typer.Argument(help="A bundle's file, or MODEL/NUMBER in the store.")],
    *,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Show what a bundle or a stored version says, and whether its signature or files are intact."""
    settings = load_config(config, state=state)
    from appliance.store import Store
    from appliance.version import parse_version
    from compiler import wording
    from compiler.inspection import inspect_bundle

    named = _VERSION.fullmatch(what)
    if named and not Path(what).exists():
        version = Store(settings.state.store).open(named[1], parse_version(named[2]))
        _print(wording.version_values(version) if json else wording.version_lines(version))
        return
    seen = inspect_bundle(Path(what), settings.state.trust)
    _print(wording.bundle_values(seen) if json else wording.bundle_lines(seen))


def _configure(config: Path | None, state: Path | None) -> Config:
    settings = load_config(config, state=state)
    use_kernel_cache(settings.state)
    return settings


def _print(result: "dict[str, Any] | Lines") -> None:
    from appliance.tables import canonical_json
    from compiler.wording import aligned

    print(canonical_json(result).decode() if isinstance(result, dict) else aligned(result))
