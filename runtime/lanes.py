"""The lanes of one version, loaded.

Knows: how many twins serve side by side. Rules: every lane is warm before it serves, and all are warmed at
the same time, since a library keeps what it prepares for a shape by the stream that a call happens to
run in. Leaves to others: one lane (`runtime.servable`), what runs on them (`runtime.batching`).
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from appliance.store import StoredVersion
from runtime.servable import Servable, golden_of, load_proven


def load_lanes(
    stored: StoredVersion, *, threads: int, lanes: int, sizes: Sequence[int]
) -> list[Servable]:
    """Load a version, proven and warm, for as many lanes; see `load_proven` for the rest and the errors."""
    loaded = [load_proven(stored, threads=threads, lanes=lanes, sizes=sizes)]
    if lanes == 1:
        return loaded
    try:
        loaded += [loaded[0].lane() for _ in range(lanes - 1)]
        warm = partial(Servable.warm, golden=golden_of(stored.directory), sizes=sizes)
        with ThreadPoolExecutor(lanes) as pool:
            list(pool.map(warm, loaded))
    except BaseException:
        for servable in loaded:
            servable.close()
        raise
    return loaded
