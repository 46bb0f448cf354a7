"""`holdfast ca init`, `issue`, `renew`, `revoke` and `list`.

Knows: which files are handed over, and how the ledger reads. Rules: what is to be done with a file is
said beside it; nothing is overwritten but by renewing. Leaves to others: the authority
(`appliance.certificates`).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appliance.certificates import (
    SERVER,
    Authority,
    Certificate,
    Issue,
    Issued,
    State,
    read_chain,
)
from appliance.certificates.authority import DENIED, KEY, ROOT, latest, read_ledger, refuse_inside
from appliance.certificates.certificate import utc_now
from appliance.clock import SystemClock
from appliance.errors import CertificateError
from appliance.files import write_file
from tui.printing import aside, cell, out, print_json, table

_STYLES: dict[str, str] = {State.DUE: "yellow", State.EXPIRED: "red", State.EARLY: "yellow"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a certificate is asked for; `hosts` of a server only, `days` it holds."""

    role: str
    name: str
    hosts: tuple[str, ...]
    days: int


def init(
    directory: Path, site: str, *, years: int, passphrase_file: Path | None, state: Path
) -> None:
    """Make an authority and say how to keep it. Raises CertificateError, StateError."""
    refuse_inside(directory, state)
    passphrase = _passphrase(passphrase_file)
    authority = Authority.create(
        directory, site=site, years=years, passphrase=passphrase, clock=SystemClock()
    )
    console = out()
    console.print(f"Authority of {site}, until {authority.root.not_after:%Y-%m-%d}")
    console.print(cell(f"  {directory / ROOT}  everyone may have it: clients trust servers by it,"))
    console.print(cell("  and boxes trust clients by it ([server.tls] client_ca)"))
    guard = "encrypted" if passphrase else "not encrypted"
    console.print(cell(f"  {directory / KEY}  {guard}: keep it off every box, and a copy of DIR"))


def opened(directory: Path, passphrase_file: Path | None) -> Authority:
    """The authority in `directory`. Raises CertificateError."""
    return Authority.open(directory, passphrase=_passphrase(passphrase_file), clock=SystemClock())


def issue(authority: Authority, wanted: Wanted, output: Path, *, as_json: bool) -> None:
    """Issue one certificate and write its files. Raises CertificateError, StateError."""
    _refuse_overwriting(output, wanted.name)
    made = authority.issue(wanted.role, wanted.name, wanted.hosts, days=wanted.days)
    _hand_over([made], output, as_json=as_json)


def renew(
    authority: Authority,
    names: Sequence[str],
    output: Path,
    *,
    days: int,
    new_key: bool,
    as_json: bool,
) -> None:
    """Renew the latest certificates of `names`, of all that are due when there are none.

    Raises CertificateError when a name has none that stands or its file is another's, StateError.
    """
    standing, now = latest(authority.ledger), utc_now(SystemClock().wall_ns())
    if names:
        chosen = [_named(standing, name) for name in names]
    else:
        due = {State.DUE, State.EXPIRED}
        certificates = [item.certificate for item in standing.values()]
        chosen = [item for item in certificates if item.state(now) in due]
    _refuse_mixing(output, chosen)
    made = [authority.renew(item, days=days, new_key=new_key) for item in chosen]
    if not made and not as_json:
        aside().print("Nothing is due for renewal.")
        return
    _hand_over(made, output, as_json=as_json)


def revoke(
    authority: Authority, directory: Path, which: str, *, reason: str, as_json: bool
) -> None:
    """Revoke and say what to copy where. Raises CertificateError, StateError."""
    if not reason.strip():
        raise CertificateError("a revocation needs a reason", remedy="say why with --reason")
    revoked = authority.revoke(which, reason.strip())
    if as_json:
        print_json([_json(item) for item in revoked])
        return
    console = out()
    for item in revoked:
        console.print(cell(f"revoked {item.serial} of {item.uri}"))
    if not revoked:
        console.print("It was revoked before; the denylist is written again.")
    console.print(cell(f"Copy {directory / DENIED} to every box ([server.tls] denied)."))


def listed(directory: Path, *, as_json: bool) -> None:
    """Print the ledger, oldest first. Raises CertificateError."""
    ledger = read_ledger(directory)
    if as_json:
        print_json([_json(item) for item in ledger.issued])
        return
    current = {item.serial for item in latest(ledger).values()}
    shown = table("Name", "Until", "State", "Addresses", "Serial", whole=("Name", "Until"))
    for item in ledger.issued:
        certificate, state = item.certificate, _state(item)
        if state in {State.VALID, State.DUE} and item.serial not in current:
            state = "replaced"
        style = _STYLES.get(state, "dim" if state in {"replaced", "revoked"} else "")
        shown.add_row(
            cell(item.uri, style),
            cell(f"{certificate.not_after:%Y-%m-%d}", style),
            cell(f"{state}: {item.reason}" if item.reason else state, style),
            cell(", ".join(certificate.hosts), style),
            cell(item.serial, style),
        )
    out().print(shown)


def _hand_over(made: Sequence[Issue], output: Path, *, as_json: bool) -> None:
    """Write each certificate, and its key where one was made, and say where they are."""
    told = []
    for item in made:
        role, name = item.certificate.name.rsplit("/", 2)[1:]
        chain, key = output / f"{name}.pem", output / f"{name}.key"
        if item.key_pem:
            write_file(key, item.key_pem, mode=0o600)
        write_file(chain, item.certificate.pem())
        told.append(
            {
                "name": item.certificate.name,
                "role": role,
                "serial": item.certificate.serial,
                "not_after": _time(item.certificate),
                "certificate": str(chain),
                "key": str(key) if item.key_pem else None,
            }
        )
    if as_json:
        print_json(told)
        return
    console = out()
    for entry in told:
        console.print(cell(f"{entry['name']}, until {str(entry['not_after'])[:10]}"))
        console.print(cell(f"  {entry['certificate']}"))
        if entry["key"]:
            whose = "the box" if entry["role"] == SERVER else "its owner"
            console.print(cell(f"  {entry['key']}  secret: move it to {whose}, keep no copy"))


def _named(standing: dict[str, Issued], name: str) -> Certificate:
    found = [item for uri, item in standing.items() if name in {uri, uri.rpartition("/")[2]}]
    if len(found) != 1:
        told = "has no certificate that stands" if not found else "is several: give the whole URI"
        raise CertificateError(
            f"'{name}' {told}", remedy="`holdfast ca list` shows them; `ca issue` makes one"
        )
    return found[0].certificate


def _refuse_overwriting(output: Path, name: str) -> None:
    for path in (output / f"{name}.pem", output / f"{name}.key"):
        if path.exists():
            raise CertificateError(
                f"{path} exists already",
                remedy="renew with `holdfast ca renew`, or give another --output",
            )


def _refuse_mixing(output: Path, chosen: Sequence[Certificate]) -> None:
    """Refuse to write one owner's certificate over another's who has the same name in another role."""
    owners = dict[Path, str]()
    for item in chosen:
        path = output / f"{item.name.rpartition('/')[2]}.pem"
        if path not in owners and path.exists():
            owners[path] = read_chain(path)[0].name
        if owners.setdefault(path, item.name) != item.name:
            raise CertificateError(
                f"{path} is of {owners[path]}, not of {item.name}",
                remedy="renew one at a time by its whole URI, each with an --output of its own",
            )


def _passphrase(path: Path | None) -> bytes | None:
    if path is None:
        return None
    try:
        passphrase = path.read_bytes().rstrip(b"\r\n")
    except OSError as error:
        raise CertificateError(
            f"cannot read the passphrase {path}: {error.strerror or error}", remedy="check the path"
        ) from error
    if not passphrase:
        raise CertificateError(f"{path} is empty", remedy="write the passphrase into it")
    return passphrase


def _state(item: Issued) -> str:
    if item.revoked:
        return "revoked"
    return item.certificate.state(utc_now(SystemClock().wall_ns()))


def _json(item: Issued) -> dict[str, object]:
    certificate = item.certificate
    return {
        "name": item.uri,
        "serial": item.serial,
        "not_before": f"{certificate.not_before:%Y-%m-%dT%H:%M:%SZ}",
        "not_after": _time(certificate),
        "state": _state(item),
        "addresses": list(certificate.hosts),
        "revoked": item.revoked or None,
        "reason": item.reason or None,
    }


def _time(certificate: Certificate) -> str:
    return f"{certificate.not_after:%Y-%m-%dT%H:%M:%SZ}"
