"""The table of payloads.

Knows: its columns, its released migrations, how a row is read. Rules: a body lies in the row, or in a file of
`payloads.blobs` when it is large. Leaves to others: when rows are written and erased (`payloads.writer`).
"""

from typing import TYPE_CHECKING, Final, TypeAlias

import msgspec

from appliance.database import Schema
from appliance.errors import PayloadBroken
from appliance.payloads.blobs import Blobs
from appliance.payloads.payload import Coding, Packed, Payload, Requested, Why, unpack

if TYPE_CHECKING:
    from sqlite_utils import Database as Tables

COLUMNS = "sha256, salt, request_id, model, version, wall_ns, why, outputs, coding, size, bytes, blob, body"
INSERT = f"INSERT INTO payload ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - our own words
SELECT = f"SELECT {COLUMNS} FROM payload"  # noqa: S608 - as above

Row: TypeAlias = tuple[
    str, bytes, str, str, int, int, Why, str, Coding, int, int, str | None, bytes | None
]
BYTES: Final = 10
BLOB: Final = 11
_outputs = msgspec.json.Decoder(tuple[Requested, ...])


def row_of(payload: Payload, packed: Packed, blob: str | None) -> Row:
    """The row of `payload`; `blob` names the file that its body is in, None when it is in the row."""
    return (
        payload.sha256,
        payload.salt,
        payload.request_id,
        payload.model,
        payload.version,
        payload.wall_ns,
        payload.why,
        msgspec.json.encode(payload.outputs).decode(),
        packed.coding,
        packed.size,
        len(packed.data),
        blob,
        None if blob else packed.data,
    )


def payload_of(row: Row, blobs: Blobs) -> Payload:
    """The payload of `row`, which fits its record. Raises PayloadBroken."""
    sha256, salt, request_id, model, version, wall_ns, why, outputs, coding, size, _, blob, body = (
        row
    )
    data = blobs.read(blob) if blob else body or b""
    payload = Payload(
        sha256=sha256,
        salt=salt,
        request_id=request_id,
        model=model,
        version=version,
        wall_ns=wall_ns,
        why=why,
        outputs=_requested(outputs),
        inputs=unpack(Packed(coding, size, data)),
    )
    payload.check()
    return payload


def _requested(outputs: str) -> tuple[Requested, ...]:
    try:
        return _outputs.decode(outputs)
    except (msgspec.DecodeError, RecursionError) as error:
        raise PayloadBroken(
            f"the outputs that a payload names cannot be read: {error}",
            remedy="keep the files of the payloads as evidence; the audit log itself is not affected",
        ) from error


def _create(tables: "Tables") -> None:
    tables.table("payload").create(
        {
            "number": int,
            "sha256": str,
            "salt": bytes,
            "request_id": str,
            "model": str,
            "version": int,
            "wall_ns": int,
            "why": str,
            "outputs": str,
            "coding": str,
            "size": int,
            "bytes": int,
            "blob": str,
            "body": bytes,
        },
        pk="number",
        strict=True,
    )
    for statement in (
        "CREATE UNIQUE INDEX payload_sha256 ON payload (sha256)",
        "CREATE INDEX payload_request ON payload (request_id)",
        "CREATE INDEX payload_model ON payload (model)",
        "CREATE INDEX payload_blob ON payload (blob) WHERE blob IS NOT NULL",
    ):
        tables.execute(statement)


SCHEMA = Schema(name="payload file", application_id=0x48464350, migrations=(_create,))
