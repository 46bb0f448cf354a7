"""The keys that may sign a log: the one that is trusted, and those it handed over to.

Knows: how a key vouches for the next (`KeyChange`), in the bytes that `audit.checker` checks too. Rules: trust
goes from a key to the one it signed for, and back to the one that signed for it; a change that does not fit is
refused, not passed over.
Leaves to others: making the change, and where the first key comes from.
"""

from collections.abc import Sequence

from appliance.audit.checker import KEY_CHANGE_KIND
from appliance.audit.checkpoint import Checkpoint, open_checkpoint, origin_of
from appliance.audit.kinds import KeyChange
from appliance.audit.record import EVIDENCE_REMEDY
from appliance.errors import AuditBroken
from appliance.signing import PublicKey, SigningKey, typed_message

BOX = "box"


def handed_over(old: SigningKey, new: PublicKey) -> bytes:
    """The 64-byte signature by which `old` vouches for `new` as the next key of its box."""
    return old.sign(typed_message(KEY_CHANGE_KIND, new.raw))


def key_change(old: SigningKey, new: PublicKey, *, reason: str, by: str) -> KeyChange:
    """The record by which `old` gives way to `new` as the key of its box."""
    return KeyChange(
        key=BOX,
        old_key_id=old.public.key_id,
        old_public=old.public.raw,
        new_key_id=new.key_id,
        new_public=new.raw,
        signature=handed_over(old, new),
        reason=reason,
        by=by,
    )


class KeyRing:
    """The trusted keys of one log, oldest first; `origin` is the log's name.

    `public` is a key of the log that someone vouched for in person, `changes` are those of its keys that the
    log tells of, in order: keys that came after `public` are trusted when each was signed for by the one
    before, keys that came before it when the change to it names them. Anybody can write such a change to a
    key: what earlier keys signed holds only under a checkpoint that the ring `vouches` for. Without `origin`
    the log is taken to have begun under the oldest. Raises AuditBroken when a change is not signed by the key
    before it.
    """

    def __init__(
        self, public: PublicKey, *, origin: str = "", changes: Sequence[KeyChange] = ()
    ) -> None:
        self._given = public
        self.keys: tuple[PublicKey, ...] = (public,)
        for change in reversed(changes):
            if change.key == BOX and change.new_key_id == self.keys[0].key_id and change.old_public:
                old = _key(change.old_public, change.old_key_id)
                _check(change, old)
                self.keys = (old, *self.keys)
        self.origin = origin or origin_of(self.keys[0])
        for change in changes:
            self.admit(change)

    def admit(self, change: KeyChange) -> bool:
        """Trust the new key of `change` from here on; False when it is another's or from before `public` came.

        Raises AuditBroken when the trusted key did not sign it.
        """
        newest = self.keys[-1]
        if change.key != BOX or change.old_key_id != newest.key_id:
            return False
        _check(change, newest)
        self.keys = (*self.keys, _key(change.new_public, change.new_key_id))
        return True

    def vouches(self, note: str) -> bool:
        """Whether the key that was given signed `note`, or one that came after it."""
        heirs = self.keys[self.keys.index(self._given) :]
        try:
            open_checkpoint(note, *heirs, origin=self.origin)
        except AuditBroken:
            return False
        return True

    def open(self, note: str) -> Checkpoint:
        """What `note` says of this log when a trusted key signed it; AuditBroken otherwise."""
        return open_checkpoint(note, *self.keys, origin=self.origin)


def _check(change: KeyChange, old: PublicKey) -> None:
    if not old.verify(typed_message(KEY_CHANGE_KIND, change.new_public), change.signature):
        raise AuditBroken(
            f"the change to the key {change.new_key_id[:16]} is not signed by the key before it",
            remedy=EVIDENCE_REMEDY,
        )


def _key(raw: bytes, key_id: str) -> PublicKey:
    """The key of these bytes, which its change names by `key_id` too."""
    try:
        key = PublicKey.from_raw(raw)
    except ValueError as error:
        raise AuditBroken(f"a change to what is no key: {error}", remedy=EVIDENCE_REMEDY) from error
    if key.key_id != key_id:
        raise AuditBroken("a change of the box's key names two keys", remedy=EVIDENCE_REMEDY)
    return key
