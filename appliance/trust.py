"""Whose signature counts for what on this box.

Knows: the trust directory: public keys (*.pub) and `signers.json`, which says of each key who holds it,
for which models and roles, from when until when, and whether it was revoked. Rules: a key that lies there
without an entry may sign every model, as in release 0.1; a revoked key stays revoked wherever its file is
copied to; of two statements the stricter holds. Leaves to others: verifying (`appliance.bundle`).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from appliance.errors import BundleExpired, BundleRevoked, BundleUntrusted, KeyFileError
from appliance.files import make_directory, write_file
from appliance.manifest import Digest
from appliance.modelkeys import ModelPublicKey, hint_of, kind_of, load_public
from appliance.staging import locked
from appliance.tables import canonical_json, from_json

SIGNERS_FILE = "signers.json"
_ADD = "ask the site who may sign, then `holdfast-compile trust add`"
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class Role(StrEnum):
    """What a signer signs: bundles, or source models before they are packed."""

    BUNDLE = "bundle"
    SOURCE = "source"


class Revocation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """That a key counts no more; `at` is RFC 3339 UTC."""

    at: str
    reason: Name


class Signer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One key's entry.

    `models` are patterns of model names (fnmatch: digits, tumours-*); none stands for every model.
    `since` and `until` bound when it may sign, RFC 3339, None for no bound.
    """

    key_id: Digest
    name: Name
    roles: tuple[Role, ...] = (Role.BUNDLE,)
    models: tuple[Name, ...] = ()
    since: str | None = None
    until: str | None = None
    revoked: Revocation | None = None

    def may_sign(self, model: str) -> bool:
        """Whether `model` is one of this signer's."""
        return not self.models or any(fnmatchcase(model, pattern) for pattern in self.models)

    def bounds(self) -> str:
        """When it may sign, in words; empty where nothing bounds it."""
        told = (("from", self.since), ("until", self.until))
        return " ".join(f"{word} {text}" for word, text in told if text is not None)


class SignersFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole of `signers.json`."""

    format: Literal[1] = 1
    signers: tuple[Signer, ...] = ()


class Trusted(msgspec.Struct, frozen=True, kw_only=True):
    """A signer with what lies in the directory: all but the signer is None where its key is gone.

    `hint` is how a signature names the key (`appliance.modelkeys.hint_of`).
    """

    signer: Signer
    kind: str | None
    hint: str | None
    file: str | None


class TrustStore:
    """The trust directory, read once."""

    def __init__(
        self,
        directory: Path,
        keys: Mapping[bytes, ModelPublicKey],
        files: Mapping[bytes, str],
        signers: Mapping[str, Signer],
    ) -> None:
        self.directory = directory
        self._keys, self._files, self._signers = keys, files, signers

    @classmethod
    def read(cls, directory: Path) -> "TrustStore":
        """Read `directory`; empty when it is missing. Raises KeyFileError for a file that is wrong."""
        keys, files = {}, {}
        for path in sorted(directory.glob("*.pub")):
            try:
                key = load_public(path)
            except KeyFileError as error:
                raise KeyFileError(
                    str(error),
                    remedy="take it out of the trust directory, or copy the right file there",
                ) from error
            keys[key.raw], files[key.raw] = key, path.name
        signers = {item.key_id: item for item in _read(directory).signers}
        return cls(directory, keys, files, signers)

    def keys(self, role: Role = Role.BUNDLE) -> dict[bytes, ModelPublicKey]:
        """The keys of everyone with `role` by their raw bytes, the revoked among them.

        A revoked key verifies still, so that it can be told from a stranger's; `check` refuses it.
        """
        return {raw: key for raw, key in self._keys.items() if role in self.signer(key).roles}

    def require_someone(self) -> None:
        """Raise KeyFileError when nobody is trusted yet, naming the directory to put keys in."""
        if not self._keys:
            raise KeyFileError(
                f"no trusted key in {self.directory}",
                remedy="copy the engineer's .pub file into it, or `holdfast-compile trust add` it",
            )

    def signer(self, key: ModelPublicKey) -> Signer:
        """The entry of `key`; for a key without one, what such a key may do."""
        plain = Path(self._files.get(key.raw, "unknown.pub")).stem
        return self._signers.get(key.key_id) or Signer(key_id=key.key_id, name=plain)

    def check(
        self,
        raw: bytes,
        model: str,
        *,
        now: datetime,
        signed_at: str | None,
        by_signing_time: bool = False,
        role: Role = Role.BUNDLE,
    ) -> Signer:
        """The signer with key `raw`, if what it signed for `model` counts.

        A bound in time is held against `now`, or with `by_signing_time` against `signed_at`.
        Raises BundleUntrusted, BundleRevoked or BundleExpired.
        """
        key = self.keys(role).get(raw)
        if key is None:
            raise BundleUntrusted("the signer is not trusted here", remedy=_ADD)
        signer = self.signer(key)
        if signer.revoked is not None:
            raise BundleRevoked(
                f"the key of {signer.name} was revoked on {signer.revoked.at}: {signer.revoked.reason}",
                remedy="have it signed again by someone who is trusted",
            )
        if not signer.may_sign(model):
            raise BundleUntrusted(
                f"{signer.name} may sign {', '.join(signer.models)}, not '{model}'", remedy=_ADD
            )
        if signer.since is not None or signer.until is not None:
            _check_time(signer, _when(signed_at) if by_signing_time else now)
        return signer

    def listed(self) -> list[Trusted]:
        """Everyone the box knows, by name; keys without an entry among them."""
        found = {key.key_id: key for key in self._keys.values()}
        known = {key_id: self.signer(key) for key_id, key in found.items()} | dict(self._signers)
        rows = []
        for key_id, signer in known.items():
            key = found.get(key_id)
            rows.append(
                Trusted(
                    signer=signer,
                    kind=None if key is None else kind_of(key),
                    hint=None if key is None else hint_of(key),
                    file=None if key is None else self._files[key.raw],
                )
            )
        return sorted(rows, key=lambda row: (row.signer.name, row.signer.key_id))


def add_signer(directory: Path, key: ModelPublicKey, signer: Signer) -> None:
    """Trust `key` as `signer` says; its .pub file is written into `directory`.

    Raises KeyFileError when the key was revoked, a time is none, or the entry's file is wrong; StateError.
    """
    assert signer.key_id == key.key_id
    for text in (signer.since, signer.until):
        if text is not None:
            moment(text)
    # The entry before the key: a key alone might sign every model.
    with _changing(directory) as signers:
        before = signers.get(signer.key_id)
        if before is not None and before.revoked is not None:
            raise KeyFileError(
                f"this key was revoked on {before.revoked.at}: {before.revoked.reason}",
                remedy="let the signer make a new key",
            )
        signers[signer.key_id] = signer
    key.save(directory / f"{signer.key_id[:16]}.pub")


def revoke_signer(directory: Path, named: str, *, at: str, reason: str) -> Signer:
    """Let the key called `named` (its name, key id or the beginning of it) count no more.

    One that was revoked before stays as it is. Raises KeyFileError when none or several are meant; StateError.
    """
    rows = [row.signer for row in TrustStore.read(directory).listed()]
    meant = [row for row in rows if row.name == named] or [
        row for row in rows if len(named) >= 8 and row.key_id.startswith(named)
    ]
    if len(meant) != 1:
        raise KeyFileError(
            f"'{named}' names {len(meant)} keys",
            remedy="give a name or key id of `holdfast-compile trust list`",
        )
    with _changing(directory) as signers:
        signer = signers.get(meant[0].key_id, meant[0])
        if signer.revoked is None:
            signer = msgspec.structs.replace(signer, revoked=Revocation(at=at, reason=reason))
        signers[signer.key_id] = signer
    return signer


def moment(text: str) -> datetime:
    """A date or an RFC 3339 time as a moment; UTC where it names no zone. Raises KeyFileError."""
    try:
        time = datetime.fromisoformat(text)
    except ValueError as error:
        raise KeyFileError(
            f"'{text}' is no time", remedy="write it as 2027-01-31 or 2027-01-31T12:00:00Z"
        ) from error
    return time if time.tzinfo else time.replace(tzinfo=UTC)


def _when(signed_at: str | None) -> datetime:
    if signed_at is None:
        raise BundleExpired(
            "it does not say when it was signed, by which this box judges its signer",
            remedy="pack it with `--signed-at now`",
        )
    return moment(signed_at)


def _check_time(signer: Signer, time: datetime) -> None:
    early = signer.since is not None and time < moment(signer.since)
    if early or (signer.until is not None and time >= moment(signer.until)):
        raise BundleExpired(
            f"{signer.name} may sign {signer.bounds()}, not at {time.isoformat(timespec='seconds')}",
            remedy="have it signed by a key that is valid, or correct this box's clock",
        )


def _read(directory: Path) -> SignersFile:
    path = directory / SIGNERS_FILE
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return SignersFile()
    except OSError as error:
        raise KeyFileError(
            f"cannot read {path}: {error.strerror or error}", remedy="check who may read it"
        ) from error
    return _sound(data, str(path))


def _sound(data: bytes, where: str) -> SignersFile:
    """What `data` says, if all of it can be meant. Raises KeyFileError."""
    told = from_json(data, SignersFile, KeyFileError, where=where)
    seen = set[str]()
    for signer in told.signers:
        if signer.key_id in seen:
            raise KeyFileError(
                f"{where} names key {signer.key_id[:16]} twice",
                remedy="leave the entry that holds, the revoked one if there is one",
            )
        seen.add(signer.key_id)
        for text in filter(None, (signer.since, signer.until)):
            moment(text)
    return told


@contextmanager
def _changing(directory: Path) -> Iterator[dict[str, Signer]]:
    """The entries by key id, written back at the end; one change at a time."""
    make_directory(directory)
    with locked(directory / ".lock"):
        signers = {item.key_id: item for item in _read(directory).signers}
        yield signers
        told = SignersFile(signers=tuple(signers[key_id] for key_id in sorted(signers)))
        path, data = directory / SIGNERS_FILE, msgspec.json.format(canonical_json(told))
        _sound(data, "what is to be kept")  # or nothing could be built here any more
        write_file(path, data, b"\n")
