"""The witnesses that the box asks: whether each keeps up with the log.

Knows: how far a witness's last cosignature may be behind the log. Rules: reads files, asks no witness; the log is
held to its own last record, so a box that is idle or stopped is not behind. Leaves to others: asking
(`runtime.witnessing`), what a cosignature is (`appliance.audit.cosignature`).
"""

from collections.abc import Iterator
from pathlib import Path

from appliance.audit.checkpoint import read_checkpoint
from appliance.audit.cosignature import cosigned_by
from appliance.audit.reader import AuditReader
from appliance.clock import timestamp
from appliance.config import Config
from appliance.errors import ApplianceError
from appliance.signing import PublicKey
from tui import wording
from tui.checkpoints import cosigned_checkpoint
from tui.doctor.finding import Finding, failed, trouble, warning, well

_REMEDY = "see `checkpoint.undelivered` in the journal; `witness.refused` there is an alarm"


def examine_witnesses(config: Config) -> Iterator[Finding]:
    """One finding a witness; none where there is no log that could be cosigned."""
    state = config.state
    if not config.checkpoints.witnesses or not state.audit_log.exists():
        return
    for peer in config.checkpoints.witnesses:
        subject = f"witness {peer.address}"
        try:
            with AuditReader(state.audit_log) as log:
                note = _note_of(log, cosigned_checkpoint(state))
                yield _examined(
                    subject, log, note, PublicKey.load(Path(peer.key)), _behind_ns(config)
                )
        except ApplianceError as error:
            yield failed(subject, error)


def _note_of(log: AuditReader, cosigned: str) -> str:
    """The cosigned checkpoint, "" when it is of the log that was before this one."""
    notes = log.checkpoints()
    of_this_log = notes and cosigned and _origin(cosigned) == _origin(notes[-1])
    return cosigned if of_this_log else ""


def _origin(note: str) -> str:
    return read_checkpoint(note).origin


def _behind_ns(config: Config) -> int:
    """How much of the log, as time, may be uncosigned while all is well."""
    asked, signed = config.checkpoints, config.audit.checkpoint_seconds
    return round((signed + 2 * asked.seconds + asked.witness_seconds_max) * 1e9)


def _examined(
    subject: str, log: AuditReader, note: str, witness: PublicKey, behind_ns: int
) -> Finding:
    if not note:
        return warning(subject, "nothing of this log is cosigned yet", _REMEDY)
    signed = cosigned_by(note, [witness])
    if not signed:
        return warning(subject, "it did not cosign the last checkpoint that others did", _REMEDY)
    covered, size = read_checkpoint(note).size, log.size()
    when = timestamp(signed[0].seconds * 10**9)[:19]
    told = f"it cosigned the first {wording.plural(covered, 'record')}, at {when}Z"
    if covered > size:
        return trouble(
            subject,
            f"{told}; the log has only {size:,}",
            "the log was cut back: keep it, `checkpoints/` and the witness's checkpoint as evidence",
        )
    # Of records that are removed only the hashes stay: they are older than any delay that is well.
    if covered < log.first() or (covered < size and _lasting_ns(log, covered) > behind_ns):
        return warning(subject, f"{told}; the log has {size:,}", _REMEDY)
    return well(subject, told)


def _lasting_ns(log: AuditReader, start: int) -> int:
    """The time from record `start` to the last one."""
    return log.at(log.size() - 1).wall_ns - log.at(start).wall_ns
