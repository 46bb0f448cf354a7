"""The denylists that were in force, in the audit log.

Knows: which list the log told of last. Rules: each list that holds is recorded within a second, at a start before
anybody is answered, when it is another than the log's last one; what cannot be recorded now is tried again. Leaves to
others: reading the file (`runtime.certificates`), turning callers away (`runtime.access`).
"""

import asyncio
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from appliance.audit.kinds import DenylistChanged
from appliance.audit.reader import AuditReader
from appliance.certificates import Denylist
from appliance.errors import ApplianceError
from runtime.certificates import Certificates
from runtime.recorder import Recorder

LOOK_SECONDS = 0.5
# A site has fewer; of a longer list the digest and the count tell the rest.
ENTRIES_MAX = 4096


class Denials:
    """Records who is denied by `certificates`; `told` is the digest of the log's last list, "" without one."""

    def __init__(self, certificates: Certificates, recorder: Recorder, told: str) -> None:
        self._certificates, self._recorder, self._told = certificates, recorder, told
        self._seen: Denylist | None = None

    async def look(self) -> None:
        """Record the list that holds now unless the log says so. Raises Overloaded, AuditUnwritable."""
        denylist = self._certificates.denylist
        if denylist is self._seen:
            return
        record = _record(denylist)
        # A box that never denied anybody has nothing to tell.
        if record.sha256 != self._told and (record.count or self._told):
            await self._recorder.appended(lambda: record)
            self._told = record.sha256
        self._seen = denylist

    async def keep_looking(self) -> None:
        """Look twice a second, until cancelled."""
        while True:
            with suppress(ApplianceError):  # a log that takes no record says so by itself
                await self.look()
            await asyncio.sleep(LOOK_SECONDS)


def open_denials(certificates: Certificates, recorder: Recorder, log: Path) -> Denials:
    """What goes on from the last denylist in the log at `log`. Raises AuditError, StateError."""
    with AuditReader(log) as reader:
        told = [entry.record for entry in reader.tail(1, category="denylist_changed")]
    digests = [record.sha256 for record in told if isinstance(record, DenylistChanged)]
    return Denials(certificates, recorder, digests[0] if digests else "")


def _record(denylist: Denylist) -> DenylistChanged:
    lines = denylist.lines
    return DenylistChanged(
        count=len(lines),
        sha256=sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest(),
        entries=tuple(lines[:ENTRIES_MAX]),
    )
