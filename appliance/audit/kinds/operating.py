"""Records of what was decided on the box and what befell it.

Knows: decisions and their outcomes, boots and stops, clock steps, changes of keys, of access and of who is denied.
Rules: as for every record (`kinds.root`): no field is ever removed, renamed or given another meaning. Leaves to
others: when each is written.
"""

from typing import Annotated, Literal

import msgspec

from appliance.audit.kinds.root import Columns, Digest, Natural, Record
from appliance.deployment import Deployment

# Whole nanoseconds of either sign.
Step = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class Decision(Record, frozen=True, kw_only=True, tag="decision"):
    """An operator's act, recorded before it is carried out; `version` is the one it is about.

    `actor` is who decided as the box knows it, `claimed` the name that they gave themselves, if any.
    """

    decision_id: str
    model: str
    act: str
    version: Natural
    actor: str
    reason: str
    before: Deployment
    after: Deployment
    claimed: str = ""

    def columns(self) -> Columns:
        """Found by decision, model, version, act and actor."""
        return ("decision", self.model, self.version, self.decision_id, self.act, self.actor)


class Outcome(Record, frozen=True, kw_only=True, tag="outcome"):
    """What came of a decision; `deployment` is how the model stands from here on."""

    decision_id: str
    model: str
    result: Literal["done", "failed", "interrupted"]
    message: str
    deployment: Deployment

    def columns(self) -> Columns:
        """Found by decision, model and result."""
        return ("outcome", self.model, 0, self.decision_id, self.result, "")


class Boot(Record, frozen=True, kw_only=True, tag="boot"):
    """The runtime started: which release, with which settings (`Config.digest`)."""

    release: str
    config_sha256: Digest


class Stop(Record, frozen=True, kw_only=True, tag="stop"):
    """The runtime stopped on purpose; a boot without one before it followed a crash."""

    reason: str


class ClockStep(Record, frozen=True, kw_only=True, tag="clock_step"):
    """The wall clock jumped by `step_ns` against the monotonic one since the record before.

    Negative when it was set back. Between two boots nothing can be said but a step back.
    """

    step_ns: Step

    def columns(self) -> Columns:
        """Found by direction."""
        return ("clock_step", "", 0, None, "back" if self.step_ns < 0 else "forward", "")


class KeyChange(Record, frozen=True, kw_only=True, tag="key_change"):
    """A key gave way to a new one: `key` says which, such as "box".

    `new_public` is the new key's raw 32 bytes, `signature` the old key's 64 over what binds the two
    (`audit.keyring` says which bytes); both are empty when the old key was lost. `old_public` is the old
    key's raw 32 bytes, so that whoever trusts the new key can check what the old one signed.
    """

    key: str
    old_key_id: Digest
    new_key_id: Digest
    new_public: bytes
    signature: bytes
    reason: str
    by: str
    old_public: bytes = b""

    def columns(self) -> Columns:
        """Found by the new key's id, which key, and who changed it."""
        return ("key_change", "", 0, self.new_key_id, self.key, self.by)


class AccessChanged(Record, frozen=True, kw_only=True, tag="access_changed"):
    """A principal was given access or lost it: `act` is "issued" or "revoked".

    `shown` says what they show, such as "token", and `id` which one; `models` is empty when all are meant.
    `expires_wall` is when it ends by itself (ISO 8601, UTC).
    """

    act: Literal["issued", "revoked"]
    shown: str
    id: str
    name: str
    role: str
    models: tuple[str, ...]
    expires_wall: str
    by: str

    def columns(self) -> Columns:
        """Found by the principal's name, act and who changed it."""
        return ("access_changed", "", 0, self.name, self.act, self.by)


class DenylistChanged(Record, frozen=True, kw_only=True, tag="denylist_changed"):
    """Other certificates than before are turned away from here on: those of this list.

    `entries` are its first ones in order, as it spells them ("serial 2f" or "uri spiffe://site/client/x"), `count`
    is how many it has, `sha256` the digest of all of them, each ending in a newline. The list is a file that any
    tool may put there, so nobody can be named who changed it.
    """

    count: Natural
    sha256: Digest
    entries: tuple[str, ...]

    def columns(self) -> Columns:
        """Found by its digest."""
        return ("denylist_changed", "", 0, self.sha256, "", "")
