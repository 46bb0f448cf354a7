"""How much memory this process holds.

Knows: Linux's /proc. Rules: where the system does not tell, the answer is None and no limit is checked by
it. Leaves to others: what is allowed (`appliance.manifest.Limits`).
"""

from pathlib import Path

STATUS = Path("/proc/self/status")


def resident_bytes(status: Path = STATUS) -> int | None:
    """The resident set in bytes: VmRSS of proc(5), which is in kibibytes; None when it is not told."""
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return None
    found = [line.split() for line in lines if line.startswith("VmRSS:")]
    return int(found[0][1]) * 1024 if found and found[0][2:] == ["kB"] else None


def added_bytes(before: int | None) -> int | None:
    """What the resident set grew by since it was `before`, at least 0; None when either is not known."""
    now = resident_bytes()
    return None if before is None or now is None else max(now - before, 0)
