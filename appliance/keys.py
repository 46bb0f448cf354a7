"""The box key: where it lies, and the one that is to follow it.

Knows: the two places of the key - sealed by systemd (a credential that the unit is handed) or a file of the state
directory - and the order for a change. Rules: a key is made only where no box was before: neither key nor public half;
the public half of the log's first key stays box.pub for ever; a key that is replaced is destroyed. Leaves to others:
what the log says of its keys (`runtime.boxkey`), sealing (`appliance.sealing`).
"""

import os
from pathlib import Path
from typing import Annotated

import msgspec

from appliance.config import StateConfig
from appliance.errors import KeyFileError
from appliance.files import sync_directory, unwritable, write_file
from appliance.signing import PublicKey, SigningKey
from appliance.tables import from_json

CREDENTIAL, NEXT_CREDENTIAL = "holdfast.box-key", "holdfast.box-key-next"
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"
LOST_REMEDY = (
    "restore the key from its copy; without one, begin a new log: `holdfast key lost --reason ...`"
)


class Order(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Why the key is to change, and who asked."""

    reason: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    by: Annotated[str, msgspec.Meta(max_length=256)] = ""


class BoxKeys:
    """The key of a box and, while a change is ordered, the one to follow; `sealed`: systemd hands them over.

    Raises KeyFileError when what is there cannot be used.
    """

    def __init__(self, state: StateConfig) -> None:
        self._directory = state.box_key.parent
        sealed = credential(CREDENTIAL)
        plain = state.box_key if state.box_key.exists() else None
        self.sealed = sealed is not None
        place = sealed or plain
        self.current = SigningKey.load(place) if place else None
        if (
            sealed
            and plain
            and SigningKey.load(plain).public.raw != SigningKey.load(sealed).public.raw
        ):
            raise KeyFileError(
                f"the box has two keys: a sealed one, and another in {plain}",
                remedy="`holdfast key status` tells which the log is signed with; move the other away",
            )
        following = credential(NEXT_CREDENTIAL) if sealed else self._next
        self.following = SigningKey.load(following) if following and following.exists() else None

    @property
    def public(self) -> Path:
        """The public half of the first key of the log, which auditors have a copy of."""
        return self._directory / "box.pub"

    @property
    def order(self) -> Order:
        """Why the key is to change; empty when nobody said. Raises KeyFileError."""
        try:
            data = self._order.read_bytes()
        except FileNotFoundError:
            return Order()
        except OSError as error:
            raise KeyFileError(
                f"cannot read {self._order}: {error.strerror or error}",
                remedy="give the file to the runtime's user, or remove it",
            ) from error
        return from_json(data, Order, KeyFileError, where=str(self._order))

    def all(self) -> tuple[SigningKey, ...]:
        """The keys that there are, the current one first."""
        return tuple(key for key in (self.current, self.following) if key is not None)

    def begin(self) -> SigningKey:
        """The key of a box that has no log yet, made if there is none.

        Its public half is written down when the log is there (`settle`), so that a start that is cut off
        between the two can be made again.

        Raises KeyFileError when there was a key, StateError when the file system refuses.
        """
        if self.current is None:
            if self.public.exists():
                raise KeyFileError(
                    f"the box key is lost: {self.public} is there, its private half is not",
                    remedy=LOST_REMEDY,
                )
            self.current = SigningKey.generate()
            write_file(self._directory / "box.pem", self.current.pem(), mode=0o600)
        return self.current

    def prepare(self, order: Order) -> PublicKey:
        """Make the key that follows, a file beside the current one; the next start takes it into use.

        Raises KeyFileError when one waits already, StateError.
        """
        if self._next.exists():
            raise KeyFileError(
                "a new key waits already", remedy="restart the runtime, which takes it into use"
            )
        key = SigningKey.generate()
        self.write_order(order)
        key.save(self._next)
        return key.public

    def write_order(self, order: Order) -> None:
        """Write down why the key is to change. Raises StateError."""
        write_file(self._order, msgspec.json.encode(order), b"\n", mode=0o640)

    def settle(self, used: SigningKey) -> None:
        """The log is signed with `used` from here on: keep its public half, and destroy the key before it.

        A sealed key is root's to move. May be called again after a crash at any point. Raises StateError.
        """
        if not self.public.exists():
            used.public.save(self.public)
        if used.public.raw != PublicKey.load(self.public).raw:
            used.public.save(self._directory / f"box-{used.public.key_id[:16]}.pub")
        if self.following is None or used.public.raw != self.following.public.raw:
            return
        try:
            self._order.unlink(missing_ok=True)
            if not self.sealed:
                self._next.with_suffix(".pub").unlink(missing_ok=True)
                self._next.replace(self._directory / "box.pem")
                sync_directory(self._directory)
        except OSError as error:
            raise unwritable(self._directory, error) from error

    @property
    def _next(self) -> Path:
        return self._directory / "next.pem"

    @property
    def _order(self) -> Path:
        return self._directory / "next.json"


def credential(name: str) -> Path | None:
    """Where systemd put the credential `name`; None when this process got none of that name."""
    directory = os.environ.get(CREDENTIALS_VARIABLE)
    path = Path(directory) / name if directory else None
    return path if path is not None and path.exists() else None
