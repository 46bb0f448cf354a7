"""The options that the commands of holdfast-compile share, said once.

Knows: their names and help texts; what WHAT may be. Rules: results go to standard output. Leaves to
others: what the settings mean (`appliance.config`).
"""

# ruff: noqa: PLC0415  heavy rooms are imported by the command that needs them
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from appliance.config import Config, load_config, use_kernel_cache

if TYPE_CHECKING:
    from appliance.store import StoredVersion
    from compiler.wording import Lines

ConfigOption = Annotated[
    Path | None, typer.Option("--config", metavar="FILE", help="The configuration file.")
]
StateOption = Annotated[
    Path | None,
    typer.Option("--state", metavar="DIR", help="The state directory; overrides the file's."),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
AgainOption = Annotated[
    bool, typer.Option("--again", help="Try a bundle again that failed here before.")
]
_VERSION = re.compile(r"([A-Za-z0-9._-]{1,128})/([^/]{1,20})")


def configure(config: Path | None, state: Path | None) -> Config:
    """The settings, and Numba's cache in its place before anything imports Numba."""
    settings = load_config(config, state=state)
    use_kernel_cache(settings.state.build_cache)
    return settings


def stored_version(what: str, settings: Config) -> "StoredVersion | None":
    """The version that `what` names as MODEL/NUMBER, None when it is no such name. Raises StoreError."""
    from appliance.store import Store
    from appliance.version import parse_version

    named = _VERSION.fullmatch(what)
    if named is None:
        return None
    return Store(settings.state.store).open(named[1], parse_version(named[2]))


def version_unless_file(what: str, settings: Config) -> "StoredVersion | None":
    """As `stored_version`, but None when `what` is the name of a file."""
    named = _VERSION.fullmatch(what) is not None and not Path(what).exists()
    return stored_version(what, settings) if named else None


def show(result: "dict[str, Any] | Lines") -> None:
    """Print values as JSON, lines in two columns."""
    from appliance.tables import canonical_json
    from compiler.wording import aligned

    print(canonical_json(result).decode() if isinstance(result, dict) else aligned(result))
