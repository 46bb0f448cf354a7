"""How signers and installs read: lines for a person, plain values for `--json`.

Knows: both forms of each. Rules: the two say the same; names from a file are made printable. Leaves to
others: printing.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from appliance.commands import printable
from appliance.installs import Install, InstallState
from appliance.trust import Signer, Trusted

_NAMED = 16  # digits of a digest, enough to name it


def signer_lines(signer: Signer) -> Iterator[tuple[str, str]]:
    """One signer."""
    yield "signer", signer.name
    yield "key id", signer.key_id
    yield "signs", f"{', '.join(signer.roles)} of {_models(signer)}"
    yield "valid", _validity(signer)


def signer_values(signer: Signer) -> dict[str, Any]:
    """The same for scripts."""
    told: dict[str, Any] = msgspec.to_builtins(signer)
    return told


def listed_text(rows: Sequence[Trusted]) -> str:
    """Every signer on a line."""
    if not rows:
        return "nobody is trusted: no bundle will be built here"
    lines = []
    for row in rows:
        signer = row.signer
        kind = row.kind or "key gone"
        told = f"{signer.name}  {signer.key_id[:_NAMED]}  {kind}  {', '.join(signer.roles)}"
        lines.append(f"{told} of {_models(signer)}  {_validity(signer)}")
    return printable("\n".join(lines))


def listed_values(rows: Sequence[Trusted]) -> dict[str, Any]:
    """The same for scripts."""
    return {
        "signers": [
            signer_values(row.signer) | {"kind": row.kind, "hint": row.hint, "file": row.file}
            for row in rows
        ]
    }


def installs_text(installs: Sequence[Install]) -> str:
    """Every try on a line, the newest last."""
    if not installs:
        return "nothing was ever installed here"
    return printable("\n".join(_install(item) for item in installs))


def installs_values(installs: Sequence[Install]) -> dict[str, Any]:
    """The same for scripts."""
    return {"installs": msgspec.to_builtins(installs)}


def _install(item: Install) -> str:
    what = item.model or "a bundle"
    if item.version is not None:
        what += f" version {item.version}"
    if item.edition is not None:
        what += f", edition {item.edition}"
    digest = item.bundle_sha256[:_NAMED] if item.bundle_sha256 else "unread"
    told = f"{item.number:>5}  {item.changed}  {item.state:<11}  {what}  {digest}"
    if item.state is InstallState.INTERRUPTED:
        return f"{told}  while {item.at}"
    return f"{told}  [{item.code}] {item.message}" if item.code else told


def _models(signer: Signer) -> str:
    return ", ".join(signer.models) or "every model"


def _validity(signer: Signer) -> str:
    if signer.revoked is not None:
        return f"revoked {signer.revoked.at}: {signer.revoked.reason}"
    return signer.bounds() or "no end"
