"""The command line of the workshop: holdfast-compile.

Knows: every command, and the options of those that make something. Rules: results go to standard output,
everything else to standard error; heavy rooms are imported inside the command that needs them, so that
--help is quick, and after Numba's cache has its place; errors and exit codes are those of
`appliance.commands`. Leaves to others: the work; the commands that only look (`cli_looking`).
"""

# ruff: noqa: PLC0415  heavy rooms are imported by the command that needs them
from pathlib import Path
from typing import Annotated

import typer

from appliance.commands import reporting
from appliance.exits import exit_code
from compiler import cli_looking, cli_trust
from compiler.options import (
    AgainOption,
    ConfigOption,
    JsonOption,
    StateOption,
    configure,
    show,
)

app = typer.Typer(
    name="holdfast-compile",
    help="Turn a trained ONNX model into a proven version on this box.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main() -> None:
    """The entry point of the command."""
    app(prog_name="holdfast-compile")


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - Typer's callback takes the flag's value
    if wanted:
        from appliance.version import release

        typer.echo(f"holdfast-compile {release()}")
        raise typer.Exit


@app.callback()
def workshop(
    *,
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the release and leave."
        ),
    ] = False,
) -> None:
    """Turn a trained ONNX model into a proven version on this box."""


app.command("check")(cli_looking.check)
app.add_typer(cli_trust.app)


@app.command("keygen")
@reporting
def keygen_command(
    name: Annotated[Path, typer.Argument(help="Where to write NAME.pem and NAME.pub.")],
    *,
    kind: Annotated[
        str,
        typer.Option(
            "--kind", help="ed25519, or p256, which the model-signing tool can verify too."
        ),
    ] = "ed25519",
) -> None:
    """Make a signing key. NAME.pem stays with the engineer, NAME.pub goes to the boxes."""
    from compiler.keygen import generate_key

    files = generate_key(name, kind)
    print(f"private key  {files.private}\npublic key   {files.public}")
    print(f"key id       {files.key_id}\nhint         {files.hint}")


@app.command("pack")
@reporting
def pack_command(
    model: Annotated[Path, typer.Argument(help="The ONNX file.")],
    *,
    spec: Annotated[Path, typer.Option("--spec", help="The model spec, TOML.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The bundle to write.")],
    key: Annotated[Path | None, typer.Option("--key", help="Private key to sign with.")] = None,
    signed_at: Annotated[
        str | None,
        typer.Option("--signed-at", help="The signing time to sign too: now, or an RFC 3339 time."),
    ] = None,
    source_signature: Annotated[
        Path | None,
        typer.Option("--source-signature", help="The model's own model.sig, by model-signing."),
    ] = None,
    source_key: Annotated[
        Path | None, typer.Option("--source-key", help="Public key of who signed the model.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision", help="fp32, fp16, bf16, int8 or auto; overrides the spec's precision."
        ),
    ] = None,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Check a model, run its sample through the reference and seal both in a signed bundle."""
    settings = configure(config, state)
    from appliance.modelkeys import load_signing
    from compiler import wording
    from compiler.bars import progress_bars
    from compiler.pack import pack, refuse_overwriting
    from compiler.signedsource import source_given
    from compiler.signingtime import signing_time

    inputs = (key, source_signature, source_key)
    refuse_overwriting(output, [path for path in inputs if path is not None])
    signing_key = None if key is None else load_signing(key)
    source = source_given(model, source_signature, source_key)
    with progress_bars() as progress:
        packed = pack(
            model,
            spec,
            output,
            key=signing_key,
            precision=precision,
            config=settings,
            progress=progress,
            signed_at=signing_time(signed_at),
            source=source,
        )
    show(wording.packed_values(packed) if json else wording.packed_lines(packed))


@app.command("build")
@reporting
def build_command(
    bundle: Annotated[Path, typer.Argument(help="The bundle, made by pack.")],
    *,
    again: AgainOption = False,
    older: Annotated[
        bool, typer.Option("--older", help="Build an older edition than was installed here.")
    ] = False,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Verify a bundle, compile and prove it here, and file it as the model's next version."""
    settings = configure(config, state)
    from compiler import wording
    from compiler.bars import progress_bars
    from compiler.build import build

    with progress_bars() as progress:
        built = build(bundle, settings, progress=progress, again=again, older=older)
    show(wording.built_values(built) if json else wording.built_lines(built))


@app.command("refresh")
@reporting
def refresh_command(
    *,
    again: AgainOption = False,
    config: ConfigOption = None,
    state: StateOption = None,
    json: JsonOption = False,
) -> None:
    """Rebuild the engines of versions in service that no longer fit this box, as after an update."""
    settings = configure(config, state)
    from compiler import wording
    from compiler.bars import progress_bars
    from compiler.refresh import refresh

    with progress_bars() as progress:
        refreshed = refresh(settings, progress=progress, again=again)
    show(wording.refreshed_values(refreshed) if json else wording.refreshed_lines(refreshed))
    failed = [item.error for item in refreshed if item.error is not None]
    if failed:
        raise SystemExit(exit_code(failed[0]))


app.command("inspect")(cli_looking.inspect)
app.command("explain")(cli_looking.explain)
app.command("report")(cli_looking.report)
app.command("unpack")(cli_looking.unpack)
app.command("installs")(cli_looking.installs)
app.command("selftest")(cli_looking.selftest)
