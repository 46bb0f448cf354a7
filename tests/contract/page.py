"""docs/conformance.md, made from docs/conformance.json.

Knows: the wording and order of the document. Rules: every number is counted from the lists of names in
the JSON. Leaves to others: running cases (`conformance`) and mutants (`fuzz`), which write the JSON.
"""

from pathlib import Path

import msgspec
from house import CLOSE, PASSED, REFUSED
from verdicts import NEEDS, SHARED, VERDICTS, Counted, Grouped, counts

ROOT = Path(__file__).resolve().parents[2]
JSON, PAGE = ROOT / "docs" / "conformance.json", ROOT / "docs" / "conformance.md"

_HEAD = """# Conformance and fuzzing

Written by `tests/contract/conformance.py` and `tests/contract/fuzz.py` from `conformance.json`; a test
compares the two. What is here was run, with the commands named.

## The cases of onnx.backend.test

The onnx package ships a test suite for backends: models with inputs and the outputs that the standard
expects. Every case of its kinds `node`, `simple`, `pytorch-operator` and `pytorch-converted` goes the way
of every model here: packed with a spec of its own (its tolerances, `batch_max = 0`), built for each CPU
target, loaded from the store and served; the answers are compared with the expected outputs by the function
with which onnx compares backends. The kind `real`, nine networks for pictures without their weights, is
left out.

A case has **passed** when a target serves it and none serves it wrongly. **close**: the answer leaves the
case's tolerance (0.001 of the value and 1e-7), but by no more than 8 units of its datatype's resolution of
the largest value: rounding. **refused**: by an error with a code, a message and a remedy. **shared**: the
answer is not the case's, nor is ONNX Runtime's own, which is the reference here. **wrong**: it is not,
though ONNX Runtime's own is. **crashed**, **hung**: what the words say.
"""

_FUZZING = """## Fuzzing

Mutants of the example models, specs and bundles: bytes turned, cut and inserted; fields of the model changed
(lengths, names, types, nodes deleted, tied into rings, nested deep, hungry for memory or time); lines and values
of the spec changed; arrays of the sample; bundles changed with and without a new signature by a trusted key.
Each is packed, built, loaded and asked, and must be refused with a code, a message and a remedy, leaving
nothing behind, or be served and answer its golden vectors. A seed and a kind name a mutant for ever.
"""


class Fuzzing(msgspec.Struct, frozen=True, kw_only=True):
    """What a fuzzing run came to: counts by kind of mutant, then by word and error code."""

    command: str
    in_process: bool
    date: str
    minutes: float
    counts: dict[str, dict[str, int]]


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the document says. Grouped: names of cases by word and reason."""

    command: str
    versions: dict[str, str]
    house: dict[str, Grouped]  # by kind of case
    ways: dict[str, Counted]  # ONNX Runtime alone, and each target
    beyond: Grouped  # what ONNX Runtime alone passes and the house does not
    fuzzing: tuple[Fuzzing, ...] = ()


def read_report() -> Report:
    """The report as it was written last."""
    return msgspec.json.decode(JSON.read_bytes(), type=Report)


def write_report(report: Report) -> None:
    """Write the JSON and the document."""
    body = msgspec.json.format(msgspec.json.encode(report), indent=1)
    JSON.write_bytes(body + b"\n")
    PAGE.write_text(page(report), "utf-8")


def page(report: Report) -> str:
    """The document."""
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    parts = [
        _HEAD,
        f"```sh\n{report.command}\n```\n\nwith {versions}.\n",
        _table("kind", {kind: counts(groups) for kind, groups in report.house.items()}, VERDICTS),
        "### Each way by itself\n\nONNX Runtime alone (its defaults, without the house), and each target.\n",
        _table(
            "way",
            {way: _sums(words) for way, words in report.ways.items()},
            (PASSED, CLOSE, REFUSED, *NEEDS),
        ),
        *(_refusals(way, words) for way, words in report.ways.items()),
        _section("### What ONNX Runtime alone passes and Holdfast does not", report.beyond),
        _of(report, "### Wrong, crashed, hung", NEEDS),
        _of(report, "### Shared with ONNX Runtime", (SHARED,)),
        _of(report, "### Close", (CLOSE,)),
        _of(report, "### Refused", (REFUSED,)),
        *([_FUZZING] if report.fuzzing else []),
        *map(_fuzzing, report.fuzzing),
    ]
    return "\n".join(part for part in parts if part)


def merged(groups: list[Grouped]) -> Grouped:
    """Many groups as one."""
    whole: Grouped = {}
    for each in groups:
        for what, reasons in each.items():
            for reason, names in reasons.items():
                whole.setdefault(what, {}).setdefault(reason, []).extend(names)
    return whole


def _sums(words: Counted) -> dict[str, int]:
    return {word: sum(reasons.values()) for word, reasons in words.items()}


def _refusals(way: str, words: Counted) -> str:
    """Why a way refuses, the most frequent reason first."""
    reasons = sorted(words.get(REFUSED, {}).items(), key=lambda item: (-item[1], item[0]))
    told = "; ".join(f"{count} {_escaped(reason)}" for reason, count in reasons)
    return f"Refused by **{way}**: {told}.\n"


def _of(report: Report, heading: str, words: tuple[str, ...]) -> str:
    whole = merged([*report.house.values()])
    return _section(heading, {word: whole[word] for word in words if word in whole})


def _section(heading: str, groups: Grouped) -> str:
    """A heading with its count, then every reason with its count and names."""
    lines = [f"{heading}: {sum(counts(groups).values())}\n"]
    for what, reasons in groups.items():
        for reason, names in sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0])):
            text = _escaped(f"{what}, {reason}" if reason else what)
            lines.append(f"- {text} ({len(names)}): {', '.join(f'`{name}`' for name in names)}")
    return "\n".join(lines) + "\n"


def _table(corner: str, rows: dict[str, dict[str, int]], columns: tuple[str, ...]) -> str:
    """Counts with a sum for every row, and over all rows where there are several kinds."""
    shown = dict(rows)
    if corner != "way":
        shown["all"] = {c: sum(row.get(c, 0) for row in rows.values()) for c in columns}
    lines = [f"| {corner} | cases | {' | '.join(columns)} |", "| --- " * (len(columns) + 2) + "|"]
    for name, row in shown.items():
        cells = [name, str(sum(row.values())), *(str(row.get(column, 0)) for column in columns)]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _fuzzing(run: Fuzzing) -> str:
    """One run: how it was made, then a table with a column for every fate."""
    columns = tuple(sorted({word for row in run.counts.values() for word in row}))
    where = (
        "Without the child process, in a worker with a limit of memory and time, for more mutants"
        if run.in_process
        else "Through the child process, as the commands go"
    )
    return "\n".join(
        [
            f"{where}, on {run.date}, in {run.minutes:.0f} minutes:\n",
            f"```sh\n{run.command}\n```\n",
            _table("mutants of", run.counts, columns),
        ]
    )


def _escaped(text: str) -> str:
    return text.replace("|", "&#124;").replace("<", "&lt;").replace("*", "\\*")
