"""Records of what was done with models and with the log itself.

Knows: drift reports, installs, verification runs, exports, sealed and removed segments. Rules: as for every
record (`kinds.root`): no field is ever removed, renamed or given another meaning. Leaves to others: when each
is written.
"""

from typing import Literal

from appliance.audit.kinds.root import Columns, Digest, Natural, Record
from appliance.deployment import Deployment


class DriftChecked(Record, frozen=True, kw_only=True, tag="drift"):
    """A drift check came to `verdict`; `report_sha256` is the digest of the report's file.

    The `rows` it looked at are those of the records from `first_sequence` to `last_sequence`.
    """

    model: str
    version: Natural
    report_sha256: Digest
    verdict: str
    findings: Natural
    rows: Natural
    first_sequence: Natural
    last_sequence: Natural
    by: str

    def columns(self) -> Columns:
        """Found by the report's digest, model, version, verdict and who ran it."""
        return ("drift", self.model, self.version, self.report_sha256, self.verdict, self.by)


class Installed(Record, frozen=True, kw_only=True, tag="installed"):
    """A bundle came to `state` on this box, such as received, built, proven or refused.

    `version` is 0 until it has one; `signer` is the id of the key that signed the bundle ("" when nobody
    known did); `engines` are the digests of what was built; `message` says why when it was refused.
    """

    model: str
    version: Natural
    bundle_sha256: Digest
    state: str
    signer: str
    engines: tuple[Digest, ...]
    message: str
    by: str

    def columns(self) -> Columns:
        """Found by the bundle's digest, model, version, state and who installed it."""
        return ("installed", self.model, self.version, self.bundle_sha256, self.state, self.by)


class Verified(Record, frozen=True, kw_only=True, tag="verified"):
    """Someone verified the log: `records` of it, with tree root `root` when `ok`.

    `broken` names the first broken place ("" when ok); `against` is the size of the checkpoint from off the
    box that it was compared with, 0 when there was none.
    """

    records: Natural
    root: str
    ok: bool
    broken: str
    against: Natural
    by: str

    def columns(self) -> Columns:
        """Found by result and who ran it."""
        return ("verified", "", 0, None, "ok" if self.ok else "broken", self.by)


class Exported(Record, frozen=True, kw_only=True, tag="exported"):
    """Something left the box: `what`, of the records with first <= sequence < end.

    `sha256` is the digest of the file or text that left, `destination` where it went.
    """

    what: Literal["checkpoint", "records", "receipt", "payload"]
    first: Natural
    end: Natural
    sha256: Digest
    destination: str
    by: str

    def columns(self) -> Columns:
        """Found by what it was and who took it."""
        return ("exported", "", 0, None, self.what, self.by)


class Sealed(Record, frozen=True, kw_only=True, tag="sealed"):
    """The records with first <= sequence < end went into a sealed file; `root` is the tree's over all < end.

    It is the first record of the file that follows, so each file vouches for the one before it; `standing` is
    how each model stood then, so that no later file needs an earlier one.
    """

    first: Natural
    end: Natural
    root: Digest
    standing: tuple[Deployment, ...]


class Removed(Record, frozen=True, kw_only=True, tag="removed"):
    """The sealed records with first <= sequence < end were deleted, as the configuration asks.

    `root` is the tree's over all records < end; their subtree hashes and checkpoints are kept.
    """

    first: Natural
    end: Natural
    root: Digest
    reason: str
