"""The command line of a site's own certificate authority: ca init, issue, renew, revoke, list.

Knows: the options of each and their limits. Rules: none of these needs a runtime or a box; the authority's
directory is always named. Leaves to others: the authority (`appliance.certificates`), printing
(`tui.commands.ca`).
"""

# ruff: noqa: PLC0415 - imports inside commands keep `holdfast --help` quick

from pathlib import Path
from typing import Annotated

import typer

from appliance.commands import reporting
from tui.options import ConfigOption, JsonOption, StateOption, box_config

DAYS, DAYS_MAX = 90, 398
YEARS, YEARS_MAX = 10, 30

ca = typer.Typer(help="Issue certificates for a site that has no authority of its own.")

AuthorityArgument = Annotated[
    Path, typer.Argument(metavar="DIR", help="The authority's directory; not on the box.")
]
PassphraseOption = Annotated[
    Path | None,
    typer.Option("--passphrase-file", metavar="FILE", help="A file with the key's passphrase."),
]
OutputOption = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Where the files are written.")
]
DaysOption = Annotated[
    int, typer.Option("--days", min=1, max=DAYS_MAX, help="How long the certificate holds.")
]


@ca.command("init")
@reporting
def ca_init(
    *,
    ctx: typer.Context,
    directory: AuthorityArgument,
    site: Annotated[
        str, typer.Option(metavar="SITE", help="The site's name, such as plant-7.example.")
    ],
    years: Annotated[
        int, typer.Option(min=1, max=YEARS_MAX, help="How long the authority holds.")
    ] = YEARS,
    passphrase_file: PassphraseOption = None,
    config: ConfigOption = None,
    state: StateOption = None,
) -> None:
    """Make the authority of a site in DIR: its key, its certificate, an empty ledger."""
    from tui.commands import ca as commands

    inside = box_config(ctx, config, state).state.root
    commands.init(directory, site, years=years, passphrase_file=passphrase_file, state=inside)


@ca.command("issue")
@reporting
def ca_issue(
    *,
    directory: AuthorityArgument,
    role: Annotated[
        str,
        typer.Argument(metavar="ROLE", help="server, client, operator, auditor or engineer."),
    ],
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who it is, such as line-3.")],
    address: Annotated[
        list[str] | None,
        typer.Option(
            "--address", metavar="HOST", help="Of a server: what clients call it; once for each."
        ),
    ] = None,
    days: DaysOption = DAYS,
    output: OutputOption = Path(),
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> None:
    """Issue a key and a certificate for NAME, as NAME.key and NAME.pem."""
    from tui.commands import ca as commands

    commands.issue(
        commands.opened(directory, passphrase_file),
        commands.Wanted(role=role, name=name, hosts=tuple(address or ()), days=days),
        output,
        as_json=json,
    )


@ca.command("renew")
@reporting
def ca_renew(
    *,
    directory: AuthorityArgument,
    name: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME]...", help="Whose; by default of all that are due."),
    ] = None,
    new_key: Annotated[
        bool, typer.Option("--new-key", help="Make a new key as well, not just a certificate.")
    ] = False,
    days: DaysOption = DAYS,
    output: OutputOption = Path(),
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> None:
    """Renew certificates: the same names and, unless --new-key is given, the same key."""
    from tui.commands import ca as commands

    authority = commands.opened(directory, passphrase_file)
    commands.renew(authority, name or [], output, days=days, new_key=new_key, as_json=json)


@ca.command("revoke")
@reporting
def ca_revoke(
    *,
    directory: AuthorityArgument,
    which: Annotated[
        str, typer.Argument(metavar="WHICH", help="A serial number, or the name or URI of all its.")
    ],
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept in the ledger.")],
    passphrase_file: PassphraseOption = None,
    json: JsonOption = False,
) -> None:
    """Revoke certificates and write the denylist DIR/denied.txt; copy it to every box."""
    from tui.commands import ca as commands

    authority = commands.opened(directory, passphrase_file)
    commands.revoke(authority, directory, which, reason=reason, as_json=json)


@ca.command("list")
@reporting
def ca_list(*, directory: AuthorityArgument, json: JsonOption = False) -> None:
    """List what was issued, when it ends, and what is due or revoked. Needs no key."""
    from tui.commands import ca as commands

    commands.listed(directory, as_json=json)
