"""Both sides of witnessing: this box asks its witnesses, and is one for others.

Knows: how a box proves to a witness what it added since. Rules: a witness that knows more of this log than the
log itself holds is an alarm, never made good by a new beginning; a witness that does not answer holds up
nothing. Leaves to others: the rules (`appliance.audit.witness`), the wire (`runtime.client`), when to ask
(`runtime.checkpoints`).
"""

from collections.abc import Iterable
from pathlib import Path

from appliance import journal
from appliance.audit.checkpoint import Checkpoint, origin_of, read_checkpoint
from appliance.audit.cosignature import cosigned_by
from appliance.audit.proofs import root_over
from appliance.audit.receipt import Evidence, growth_path
from appliance.audit.witness import Witness
from appliance.clock import Clock
from appliance.config import CheckpointsConfig, Config, WitnessPeer
from appliance.errors import ApplianceError, AuditBroken, WitnessRefused
from appliance.signing import PublicKey, SigningKey
from runtime.client.connection import Tls
from runtime.client.evidence import EvidenceClient


def witness_for_others(config: Config, clock: Clock) -> Witness | None:
    """The witness that [witness] asks for, None when it names no log. Raises KeyFileError, StateError."""
    logs: dict[str, tuple[PublicKey, ...]] = {}
    for log in config.witness.logs:
        keys = tuple(PublicKey.load(Path(path)) for path in (log.key, *log.later_keys))
        logs[origin_of(keys[0])] = keys
    if not logs:
        return None
    key = SigningKey.load_or_generate(config.state.witness_key)
    return Witness(config.state.witnessed, key, logs, clock)


class Asking:
    """One witness of this box; `cosignature` remembers the size that it has. One thread at a time.

    Raises KeyFileError, ConfigError.
    """

    def __init__(self, peer: WitnessPeer, *, seconds_max: float) -> None:
        self.name = peer.address
        self._public = PublicKey.load(Path(peer.key))
        tls = (
            Tls(
                root=Path(peer.root),
                chain=Path(peer.certificate) if peer.certificate else None,
                key=Path(peer.private_key) if peer.private_key else None,
            )
            if peer.root
            else None
        )
        self._client = EvidenceClient(peer.address, tls=tls, deadline_seconds=seconds_max)
        self._size = 0

    def cosignature(self, log: Evidence, note: str) -> str:
        """The witness's line for the checkpoint `note` of `log`.

        Raises WitnessRefused when the witness knows this log otherwise, Unreachable, AuditBroken when its
        line does not fit.
        """
        new = read_checkpoint(note)
        cosignature, size = self._client.add_checkpoint(self._size, self._proof(log, new), note)
        if not cosignature:
            self._size = self._known(size, new)
            cosignature, size = self._client.add_checkpoint(self._size, self._proof(log, new), note)
        if not cosigned_by(note + cosignature, [self._public]):
            raise AuditBroken(
                f"the answer of {self.name} is not signed by its key",
                remedy="check `key` of this witness in [checkpoints] witnesses",
            )
        self._size = size
        return cosignature

    def close(self) -> None:
        """End the connection."""
        self._client.close()

    def _known(self, size: int, new: Checkpoint) -> int:
        if size > new.size:
            raise WitnessRefused(
                f"the witness {self.name} has seen {size} records of this log, which now has {new.size}",
                remedy="the log was cut back: keep it and the witness's checkpoint as evidence",
            )
        return size

    def _proof(self, log: Evidence, new: Checkpoint) -> list[bytes]:
        if not self._size:
            return []
        old = Checkpoint(origin=new.origin, size=self._size, root=root_over(log, range(self._size)))
        return growth_path(log, old, new)


def ask_all(
    witnesses: Iterable[Asking], log: Evidence, note: str
) -> dict[str, str | ApplianceError]:
    """The cosignature that each gives for `note`, or what keeps it from giving one, by address."""
    answers: dict[str, str | ApplianceError] = {}
    for witness in witnesses:
        try:
            answers[witness.name] = witness.cosignature(log, note)
        except ApplianceError as error:
            answers[witness.name] = error
    return answers


def asked_witnesses(config: CheckpointsConfig) -> list[Asking]:
    """The witnesses that [checkpoints] names. Raises KeyFileError, ConfigError."""
    if config.witnesses:
        journal.event("witness.asked", witnesses=[peer.address for peer in config.witnesses])
    return [Asking(peer, seconds_max=config.witness_seconds_max) for peer in config.witnesses]
