"""Audit records as a Parquet file (a door: pyarrow is reached here only, and only when one is asked for).

Knows: the columns, and what stands in the file's metadata. Rules: a row holds what can be searched by, the record's
leaf hash and its canonical bytes, so that any line can be proven as one of JSON Lines can; few rows are in memory at
a time. Leaves to others: which records, and where the file goes (`tui.commands.auditexport`).

Format: https://parquet.apache.org/docs/file-format/
"""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any, Protocol

from appliance.audit.record import Entry, encode
from appliance.audit.tree import leaf_hash
from appliance.errors import ConfigError

# So many records make a row group: some ten megabytes of them.
GROUP_RECORDS = 8192
COLUMNS = (
    "sequence",
    "time",
    "category",
    "model",
    "version",
    "event_id",
    "result",
    "principal",
    "leaf",
    "record",
)


class Sink(Protocol):
    """Where the file's bytes go, in order."""

    @property
    def closed(self) -> bool:
        """Whether nothing more is taken."""

    def write(self, data: bytes) -> int:
        """Take bytes and say how many."""

    def flush(self) -> None:
        """Let nothing wait."""


def write_records(sink: Sink, entries: Iterable[Entry], *, about: Mapping[str, str]) -> None:
    """Write `entries` as one Parquet file, with `about` as its key-value metadata.

    Raises ConfigError when the library is not installed, OSError as `sink` does.
    """
    arrow, parquet = library()
    schema = _schema(arrow).with_metadata(dict(about))
    rows = map(_row, entries)
    with parquet.ParquetWriter(sink, schema, compression="zstd") as writer:
        while group := list(islice(rows, GROUP_RECORDS)):
            columns = zip(*group, strict=True)
            writer.write_table(
                arrow.table(
                    [
                        arrow.array(column, field.type)
                        for column, field in zip(columns, schema, strict=True)
                    ],
                    schema=schema,
                )
            )


def library() -> tuple[Any, Any]:
    """The library and its Parquet. Raises ConfigError when they are not installed."""
    try:
        import pyarrow as pa  # noqa: PLC0415 - a large library that one command needs
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            f"Parquet needs pyarrow, which is not installed ({error})",
            remedy="install the extra: pip install 'holdfast[parquet]'; or export .jsonl, which any tool reads",
        ) from error
    return pa, pq


def _schema(arrow: Any) -> Any:
    text, whole = arrow.string(), arrow.int64()
    few = arrow.dictionary(arrow.int32(), text)
    types = (
        whole,
        arrow.timestamp("ns", tz="UTC"),
        few,
        few,
        whole,
        text,
        few,
        few,
        arrow.binary(32),
        text,
    )
    return arrow.schema(
        [
            arrow.field(name, type_, nullable=name == "event_id")
            for name, type_ in zip(COLUMNS, types, strict=True)
        ]
    )


def _row(entry: Entry) -> tuple[object, ...]:
    """The values of COLUMNS."""
    category, model, version, event_id, result, principal = entry.record.columns()
    body = encode(entry)
    return (
        entry.sequence,
        entry.wall_ns,
        category,
        model,
        version,
        event_id,
        result,
        principal,
        leaf_hash(body),
        body.decode("utf-8"),
    )
