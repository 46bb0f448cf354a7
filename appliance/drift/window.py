"""Windows: the drift vectors of a version's last rows, gathered from audit records.

Knows: how a record's vector is read, and keeping the last rows. Rules: takes plain values in the log's
order, so it depends on no class of the log; a vector of the wrong length is an error, never skipped.
Leaves to others: reading the log (`appliance.audit`), checking the window (`check`).
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from appliance.errors import DriftError
from appliance.layout import Floats


class VectorRecord(NamedTuple):
    """What of an inference record concerns drift; `vector` as in the record: rows x width float32."""

    sequence: int
    wall_ns: int
    model: str
    version: int
    vector: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Live rows of one version: `vectors` float32 (rows, width), and where they stand in the log."""

    model: str
    version: int
    vectors: Floats
    first_sequence: int
    last_sequence: int
    first_wall_ns: int
    last_wall_ns: int


def decode_vector(vector: bytes, width: int) -> Floats:
    """The rows of one record's vector, float32 (rows, width), little-endian in the record.

    Raises DriftError when the length is not that of whole rows.
    """
    if not width or len(vector) % (4 * width):
        raise DriftError(
            f"a drift vector of {len(vector)} bytes does not hold rows of {width} values",
            remedy="check with `holdfast audit verify` that the log is whole",
        )
    return np.frombuffer(vector, "<f4").reshape(-1, width)


def vectors_from_records(
    records: Iterable[VectorRecord], *, model: str, version: int, width: int, rows_max: int
) -> Window:
    """The last `rows_max` rows of `version`, from `records` in rising sequence; others are passed over.

    Memory is that of the rows kept. Raises DriftError when there is no row, or a vector is broken.
    """
    kept: deque[tuple[VectorRecord, Floats]] = deque()
    rows = 0
    for record in records:
        if (record.model, record.version) != (model, version) or not record.vector:
            continue
        kept.append((record, decode_vector(record.vector, width)))
        rows += len(kept[-1][1])
        while rows - len(kept[0][1]) >= rows_max:
            rows -= len(kept.popleft()[1])
    if not kept:
        raise DriftError(
            f"the audit log holds no drift vectors of {model} version {version}",
            remedy="check again once the version has answered requests",
        )
    first, last = kept[0][0], kept[-1][0]
    return Window(
        model=model,
        version=version,
        vectors=np.concatenate([vectors for _, vectors in kept])[-rows_max:],
        first_sequence=first.sequence,
        last_sequence=last.sequence,
        first_wall_ns=first.wall_ns,
        last_wall_ns=last.wall_ns,
    )
