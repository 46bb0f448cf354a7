"""How long receipts and growth proofs take on a log of many records: `python tests/bench/receipts.py`.

Knows: nothing of the box; it writes a log of its own, of simulated records. Rules: every proof is checked.
Leaves to others: the request path, which makes none (`serving`).
"""

import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from appliance.audit.kinds import Stop
from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.audit.receipt import growth_of, open_growth, open_receipt, receipt_of
from appliance.clock import SystemClock
from appliance.signing import SigningKey

RECORDS, GROUP, PROOFS = 300_000, 1000, 50


def timed(act: Callable[[], bytes], check: Callable[[bytes], object]) -> tuple[float, float, int]:
    """Milliseconds to make and to check, and the bytes."""
    began = time.perf_counter()
    data = act()
    made = time.perf_counter()
    check(data)
    return (made - began) * 1e3, (time.perf_counter() - made) * 1e3, len(data)


def main() -> None:
    """Print one line for receipts, one for growth proofs."""
    chance, key = random.Random(1), SigningKey.generate()
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "log.db"
        with AuditLog.open(path, key=key, clock=SystemClock()) as log:
            for first in range(0, RECORDS, GROUP):
                log.append([Stop(reason=str(number)) for number in range(first, first + GROUP)])
        with AuditReader(path) as reader:
            notes = reader.checkpoints(RECORDS)[1:]
            tries = {
                "receipt": lambda: timed(
                    lambda: receipt_of(reader, chance.randrange(RECORDS)),
                    lambda data: open_receipt(data, key.public),
                ),
                "growth": lambda: timed(
                    lambda: growth_of(reader, chance.choice(notes), notes[-1]),
                    lambda data: open_growth(data, key.public),
                ),
            }
            for name, attempt in tries.items():
                makes, checks, sizes = zip(*(attempt() for _ in range(PROOFS)), strict=True)
                print(
                    f"{name}: made in {median(makes):.1f} ms (most {max(makes):.1f}), checked in "
                    f"{median(checks):.1f} ms, {min(sizes)} to {max(sizes)} bytes, {RECORDS:,} records"
                )


if __name__ == "__main__":
    main()
