"""docs/reliability.md, made from docs/reliability.json.

Knows: the wording and order of the document. Rules: every number is one that a run wrote down; a part that was
not run again keeps what its last run found. Leaves to others: running anything (`reliability`).
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
JSON, PAGE = ROOT / "docs" / "reliability.json", ROOT / "docs" / "reliability.md"
Table = list[tuple[object, ...]]

_HEAD = """# Reliability, by simulation

Written by `make reliability` from `reliability.json`; a test compares the two. What is here was run. A case is one
state of a disk, one failing call, one act or one kill; **broken** counts the cases in which a law did not hold:

- every answer or record that was acknowledged is there, in its place;
- the log ends between two commits and verifies, or verify names the first broken place;
- the next start succeeds, the next record follows the last, the next version gets the next number;
- an error is one with a code and a remedy.
"""

_CUTS = """## Power cuts

The box's own rooms run in a child whose every write, truncation, sync and change of a name is written down by a
preloaded library (`tests/simulation/shim.c`). A model of a disk (`disk.py`) then gives, for the moment before each
sync and each change of a name, what a power cut may leave there. The model is as hard as POSIX allows: what was not
synced may be there or not, sector by sector (512 bytes) and in any order; a file's name is durable when its directory
was synced, and not before; a sync that failed has lost what it was to write. Only a rename is whole. Each state is
opened as the next start would open it, read whole, verified, written to and verified again.
"""

_FAULTS = """## Calls that fail

Every call that changes a file fails in turn, with ENOSPC, EIO and EROFS, once, five times and for good; the workload
goes on as a box does. Then the disk is well again and the state must keep every promise made; so must what a power
cut leaves of it. Where a workload has very many calls a share of the cases is drawn.
"""

_TAMPERING = """## Tampering

Acts on a log of 600 records and its checkpoints, without the key; and two that only a checkpoint which left the
box can show.
"""

_NEIGHBOURS = """## Neighbours and the clock
"""

_KILLS = """## Kills

A real runtime with a model, four clients that ask without a pause and an operator who decides all the time; SIGKILL
at a random moment, a fifth of them while it starts. After each the log must hold every answer that a client got, and
traffic must stand where the last answered decision, or the one under way, put it.
"""


def write_report(parts: dict[str, Any], *, system: str) -> None:
    """Put the parts that were run into the JSON, and the document beside it."""
    report = json.loads(JSON.read_text()) if JSON.exists() else {}
    report.update({name: part | {"system": system} for name, part in parts.items()})
    JSON.write_text(json.dumps(report, indent=1, sort_keys=True) + "\n")
    PAGE.write_text(page(json.loads(JSON.read_text())))


def page(report: dict[str, Any]) -> str:
    """The document for a report."""
    texts = [_HEAD, _summary(report)]
    for name, text, tables in (
        ("cuts", _CUTS, _cuts),
        ("faults", _FAULTS, _faults),
        ("tampering", _TAMPERING, _tampering),
        ("neighbours", _NEIGHBOURS, _neighbours),
        ("kills", _KILLS, _kills),
    ):
        if name in report:
            texts.append(text + "\n" + tables(report[name]))
    return "\n".join(texts)


def _summary(report: dict[str, Any]) -> str:
    rows = [
        (
            name,
            part["cases"],
            len(part["broken"]),
            _minutes(part),
            _command(name, part),
            part["date"],
        )
        for name, part in report.items()
    ]
    systems = sorted({part["system"] for part in report.values()})
    head = ("part", "cases", "broken", "minutes", "command", "date")
    return f"{_table(head, rows)}\nOn {'; '.join(systems)}; the simulated disks in memory.\n"


def _cuts(part: dict[str, Any]) -> str:
    losses = sorted({loss for row in part["workloads"].values() for loss in row["states"]})
    rows = [
        (name, row["moments"], *(row["states"].get(loss, 0) for loss in losses))
        for name, row in part["workloads"].items()
    ]
    return _table(("workload", "moments", *(f"lost: {loss}" for loss in losses)), rows)


def _faults(part: dict[str, Any]) -> str:
    rows = []
    for name, row in part["workloads"].items():
        by_error: Counter[str] = Counter()
        for case, count in row["cases"].items():
            by_error[case.split()[0]] += count
        told = ", ".join(
            f"{text.removeprefix('refused ')} {n}" for text, n in sorted(row["told"].items())
        )
        counts = (by_error[each] for each in ("ENOSPC", "EIO", "EROFS"))
        rows.append((name, f"{row['share']:.1%}", *counts, told))
    return _table(("workload", "share", "ENOSPC", "EIO", "EROFS", "errors told on the way"), rows)


def _tampering(part: dict[str, Any]) -> str:
    rows = [
        (act, sum(counts.values()), ", ".join(f"{word}: {n}" for word, n in sorted(counts.items())))
        for act, counts in part["acts"].items()
    ]
    return _table(("act", "cases", "what became of them"), rows)


def _neighbours(part: dict[str, Any]) -> str:
    return (
        f"{part['second_writers']} starts of a second writer beside the first were refused and changed nothing. "
        f"{part['read_groups']} groups were written while one read transaction stayed open, which saw none of "
        f"them. {part['steps']} steps of the wall clock, up to ten years both ways, changed no order, and each "
        "has its record.\n"
    )


def _kills(part: dict[str, Any]) -> str:
    return (
        f"{part['kills']} kills, {part['starting']} of them while it started; before them {part['answered']} "
        f"requests were answered, and in {part['decided']} lives a decision was. The log had {part['records']} records at "
        "the end and verified.\n"
    )


def _minutes(part: dict[str, Any]) -> str:
    return f"{part['seconds'] / 60:.1f}"


def _command(name: str, part: dict[str, Any]) -> str:
    share = f" --share {part['share']:g}" if part["share"] != 1 else ""
    return f"`python tests/simulation/reliability.py --only {name} --seed {part['seed']}{share} --write`"


def _table(head: tuple[str, ...], rows: Table) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)
