"""The options that many commands share, said once.

Knows: their names, help texts and completion. Rules: --config and --state may stand before or after the
command's name; completion answers from the store alone, so that it works while the runtime is down.
Leaves to others: what the settings mean (`appliance.config`).
"""

from pathlib import Path
from typing import Annotated

import typer

from appliance.config import Config, load_config
from appliance.errors import ApplianceError
from tui import wording
from tui.entry import check_entry

_BOX = "Which box"


def complete_model(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of the stored models that start with `incomplete`, none when the store is unreadable."""
    from appliance.store import Store  # noqa: PLC0415 - it loads numpy, which help has no use for

    try:
        models = Store(box_config(ctx, None, None).state.store).models()
    except (ApplianceError, OSError):
        return []
    return [name for name in models if name.startswith(incomplete)]


def complete_version(ctx: typer.Context, incomplete: str) -> list[str]:
    """Numbers of the model's stored versions that start with `incomplete`, none when unreadable."""
    from appliance.store import Store  # noqa: PLC0415 - it loads numpy, which help has no use for

    try:
        store = Store(box_config(ctx, None, None).state.store)
        versions = store.versions(str(ctx.params.get("model")))
    except (ApplianceError, OSError):
        return []
    return [str(number) for number in versions if str(number).startswith(incomplete)]


def _per_mille(text: str) -> int:
    """The thousandths in a share; BadParameter, saying the form, for what is none."""
    try:
        return wording.per_mille(text)
    except ValueError as error:
        raise typer.BadParameter(f"'{text}': {error}") from error


ConfigOption = Annotated[
    Path | None,
    typer.Option(
        "--config",
        metavar="FILE",
        readable=False,  # whoever reads it tells more, with a remedy
        help="The settings file.",
        rich_help_panel=_BOX,
    ),
]
StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state",
        metavar="DIR",
        readable=False,
        help="The state directory, instead of the one in the settings.",
        rich_help_panel=_BOX,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
ModelArgument = Annotated[
    str, typer.Argument(metavar="MODEL", help="The model's name.", autocompletion=complete_model)
]
VersionArgument = Annotated[
    int,
    typer.Argument(metavar="VERSION", min=1, help="Its version.", autocompletion=complete_version),
]
# Of a command that may end instead of start.
StartedArgument = Annotated[
    int | None,
    typer.Argument(
        metavar="VERSION",
        min=1,
        show_default=False,
        help="Its version; with --end none.",
        autocompletion=complete_version,
    ),
]
ShareOption = Annotated[
    int | None,
    typer.Option(
        "--share",
        metavar="SHARE",
        parser=_per_mille,
        help="How much of the requests it answers: 5%, 0.5% or 5 per mille.",
    ),
]
EndOption = Annotated[bool, typer.Option("--end", help="End it instead of starting it.")]
ReasonOption = Annotated[
    str, typer.Option("--reason", help="Why; it is recorded with the decision.")
]
ActorOption = Annotated[
    str | None, typer.Option("--actor", help="Who decides; by default the login name.")
]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")]


def box_config(ctx: typer.Context, config: Path | None, state: Path | None) -> Config:
    """The settings of the box that this command line names.

    What stands after the command's name comes first, then what stands before it. Raises ConfigError when they are
    wrong, StateError when this user may not enter the state directory.
    """
    root = ctx.find_root().params
    chosen = load_config(config or root.get("config"), state=state or root.get("state"))
    check_entry(chosen.state)
    return chosen
