"""`holdfast doctor`.

Knows: how findings read, as lines and as JSON. Rules: settings that cannot be read are a finding too. Leaves to
others: looking (`tui.doctor`).
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

from appliance.clock import SystemClock
from appliance.config import load_config
from appliance.errors import ConfigError
from tui.doctor import Finding, Verdict, Visit, examine_box, examine_remote
from tui.doctor.finding import failed
from tui.printing import cell, out, print_json

_STYLES = {Verdict.WELL: "green", Verdict.WARNING: "yellow", Verdict.TROUBLE: "bold red"}


def look(config: Path | None, state: Path | None, *, as_json: bool) -> bool:
    """Examine this box and print what was found; False when there is trouble."""
    return _print(_examined(config, state), as_json=as_json)


def walk(visit: Visit, *, as_json: bool) -> bool:
    """Walk to a server and print how far it goes; False when something is in the way."""
    return _print(examine_remote(visit, SystemClock()), as_json=as_json)


def visit(
    address: str,
    authority: Path | None,
    certificate: Path | None,
    *,
    key: Path | None,
    token_file: Path | None,
) -> Visit:
    """What the options ask for. Raises ConfigError when they do not go together."""
    if (certificate is None) != (key is None):
        raise ConfigError(
            "a certificate and its key go together", remedy="give both --certificate and --key"
        )
    try:
        token = token_file.read_text("utf-8").strip() if token_file else ""
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the token: {error}", remedy="check --token-file") from error
    return Visit(address=address, root=authority, chain=certificate, key=key, token=token)


def _examined(config: Path | None, state: Path | None) -> Iterator[Finding]:
    try:
        chosen = load_config(config, state=state)
    except ConfigError as error:
        yield failed("settings", error)
        return
    yield from examine_box(chosen, SystemClock())


def _print(findings: Iterable[Finding], *, as_json: bool) -> bool:
    """Print each finding as it comes; whether none of them is trouble."""
    console, found = out(), []
    for finding in findings:
        found.append(finding)
        if as_json:
            continue
        console.print(
            cell(f"{finding.verdict:<8}", _STYLES[finding.verdict]),
            cell(f"{finding.subject}: {finding.told}"),
        )
        if finding.remedy:
            console.print(cell(f"         -> {finding.remedy}"))
    if as_json:
        print_json(found)
    return all(finding.verdict is not Verdict.TROUBLE for finding in found)
