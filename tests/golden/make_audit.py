"""Makes the golden audit log: one of every record kind, written by a key, a clock and a boot that repeat.

Run `python tests/golden/make_audit.py DIRECTORY`. The files in tests/golden/audit/1 are what format 1
was, those in 2 what format 2 was at first, those in 2.1 what it is with the kinds that came since; later releases must
open and verify them for ever, so they are only ever added to, by a new directory.
"""

import hashlib
import sys
from pathlib import Path

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from appliance.audit.kinds import (
    AccessChanged,
    AnyRecord,
    Boot,
    ClockStep,
    Decision,
    DenylistChanged,
    DriftChecked,
    Erased,
    Exported,
    Failure,
    Feedback,
    Gap,
    Inference,
    Installed,
    KeyChange,
    Outcome,
    Refusals,
    Removed,
    Sealed,
    Stop,
    Verified,
)
from appliance.audit.log import AuditLog
from appliance.audit.payload import Tensor
from appliance.audit.reader import AuditReader
from appliance.audit.record import encode
from appliance.deployment import Deployment, Tuning
from appliance.signing import SigningKey
from appliance.tensors import DataType

BOOT_ID = "00000000-0000-4000-8000-000000000001"
WALL_NS = 1_767_225_600_000_000_000


class GoldenClock:
    """A clock that is a millisecond later each time it is asked."""

    def __init__(self) -> None:
        self.asked = 0

    def wall_ns(self) -> int:
        self.asked += 1
        return WALL_NS + self.asked * 1_000_000

    def monotonic_ns(self) -> int:
        return self.asked * 1_000_000


def golden_key() -> SigningKey:
    """A key that anyone can make, and that therefore proves nothing outside these tests."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(sha256(b"golden")))


def samples() -> list[AnyRecord]:
    """One record of every kind, with letters beyond ASCII where a person writes the text."""
    return [*second_samples(), *later_samples()]


def second_samples() -> list[AnyRecord]:
    """One record of each kind that format 2 had at first."""
    return [*first_samples(), *request_samples(), *log_samples()]


def later_samples() -> list[AnyRecord]:
    """The kinds that came since."""
    entries = ("serial 2f", "uri spiffe://site/client/press-4")
    return [
        DenylistChanged(
            count=len(entries),
            sha256=digest("".join(f"{entry}\n" for entry in entries)),
            entries=entries,
        )
    ]


def request_samples() -> list[AnyRecord]:
    """Of requests and models: the kinds that came with format 2, and the fields that older kinds gained."""
    answer = next(record for record in first_samples() if isinstance(record, Inference))
    decision = next(record for record in first_samples() if isinstance(record, Decision))
    return [
        msgspec.structs.replace(
            answer, request_id="request-3", sequence="line-4", step=2, payload_sha256=digest("kept")
        ),
        msgspec.structs.replace(
            decision, decision_id="decision-2", claimed="Ægir of the night shift"
        ),
        Refusals(
            principal="token:press-4",
            peer="ipv4:127.0.0.1:50001",
            code="request.invalid",
            count=1200,
            message="unexpected shape for input 'image'",
            first_wall_ns=WALL_NS,
            last_wall_ns=WALL_NS + 59_000_000_000,
        ),
        Feedback(
            request_id="request-1",
            model="digits",
            version=2,
            principal="token:press-4",
            peer="ipv4:127.0.0.1:50000",
            truth=(
                Tensor(
                    name="class", datatype=DataType.INT64, shape=(1, 1), data=b"\x08" + bytes(7)
                ),
            ),
            note="læst igen",
        ),
        Erased(request_id="request-3", model="digits", count=1, reason="asked to", by="ægir"),
        DriftChecked(
            model="digits",
            version=2,
            report_sha256=digest("report"),
            verdict="drift",
            findings=3,
            rows=1000,
            first_sequence=3,
            last_sequence=1002,
            by="holdfast",
        ),
        Installed(
            model="digits",
            version=3,
            bundle_sha256=digest("bundle 3"),
            state="proven",
            signer=digest("engineer"),
            engines=(digest("engine"),),
            message="",
            by="ægir",
        ),
    ]


def log_samples() -> list[AnyRecord]:
    """Of the log itself: the kinds that came with format 2."""
    decision = next(record for record in first_samples() if isinstance(record, Decision))
    return [
        Verified(records=7, root=digest("root"), ok=True, broken="", against=4, by="auditor"),
        Exported(
            what="records",
            first=0,
            end=7,
            sha256=digest("export"),
            destination="/media/usb/log.jsonl",
            by="auditor",
        ),
        Sealed(first=0, end=7, root=digest("root"), standing=(decision.after,)),
        Removed(first=0, end=7, root=digest("root"), reason="its records are over 366 days old"),
        ClockStep(step_ns=-3_600_000_000_000),
        KeyChange(
            key="box",
            old_key_id=digest("old"),
            new_key_id=digest("new"),
            new_public=sha256(b"new"),
            old_public=sha256(b"old"),
            signature=bytes(64),
            reason="yearly",
            by="ægir",
        ),
        AccessChanged(
            act="revoked",
            shown="token",
            id="0123456789ab",
            name="token:press-4",
            role="client",
            models=("digits",),
            expires_wall="2027-01-01T00:00:00Z",
            by="ægir",
        ),
    ]


def first_samples() -> list[AnyRecord]:
    """One record of each kind that format 1 had."""
    tuning = Tuning(rows_max=16, delay_us_max=200, lanes=2, threads=0, bucket_rows=(1, 4, 16))
    before = Deployment(model="digits", active=1, previous=None, retired=(), tuning=tuning)
    after = Deployment(model="digits", active=2, previous=1, retired=(), tuning=tuning)
    return [
        Boot(release="0.1.0", config_sha256=digest("config")),
        Decision(
            decision_id="decision-1",
            model="digits",
            act="activate",
            version=2,
            actor="Ægir",
            reason='drift report 7: "3" read as "8"',
            before=before,
            after=after,
        ),
        Outcome(
            decision_id="decision-1", model="digits", result="done", message="", deployment=after
        ),
        Inference(
            request_id="request-1",
            model="digits",
            version=2,
            bundle_sha256=digest("bundle"),
            engine_sha256=digest("engine"),
            recipe_sha256=digest("recipe"),
            route="active",
            principal="spiffe://site/client/press-4",
            peer="ipv4:127.0.0.1:50000",
            rows=1,
            input_sha256=digest("input"),
            output_sha256=digest("output"),
            outputs=(
                Tensor(
                    name="class", datatype=DataType.INT64, shape=(1, 1), data=b"\x03" + bytes(7)
                ),
            ),
            vector=b"\x00\x00\x80\x3f\x00\x00\x00\x40",
            queue_ns=12_000,
            compute_ns=340_000,
            total_ns=400_000,
        ),
        Failure(
            request_id="request-2",
            model="digits",
            version=0,
            principal="",
            peer="ipv4:127.0.0.1:50001",
            code="request.invalid",
            message="unexpected shape for input 'image'",
        ),
        Gap(count=3, reason="the queue was full"),
        Stop(reason="SIGTERM"),
    ]


def digest(text: str) -> str:
    return sha256(text.encode()).hex()


def sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def write(directory: Path) -> None:
    """Write log.db, its public key box.pub, the note checkpoint.txt and the bodies records.jsonl."""
    directory.mkdir(parents=True)
    key, path = golden_key(), directory / "log.db"
    log = AuditLog.open(path, key=key, clock=GoldenClock(), checkpoint_records=3, boot_id=BOOT_ID)
    with log:
        for record in samples():
            log.append([record])
    with AuditReader(path) as reader:
        bodies = [encode(entry) for entry in reader.records()]
        (note,) = reader.checkpoints(1)
    key.public.save(directory / "box.pub")
    (directory / "checkpoint.txt").write_text(note, "utf-8")
    (directory / "records.jsonl").write_bytes(b"".join(body + b"\n" for body in bodies))
    (directory / "log.db.lock").unlink()


if __name__ == "__main__":
    write(Path(sys.argv[1]))
