"""What the outcomes of all cases come to: one verdict a case, reasons in groups, counts. Pure.

Knows: how the outcomes of the targets make one verdict, and the words for reasons. Rules: a case passes
when a target serves it and none serves it wrongly; a refusal is grouped by its cause, never dropped.
Leaves to others: running (`house`) and the document (`page`).

Verdicts: `passed`; `close` (by rounding alone); `refused`; `shared` (the answer is not the case's, nor is
ONNX Runtime's own); `wrong` (it is not, though ONNX Runtime's own is); `crashed`; `hung`.
"""

import re
from collections.abc import Iterable, Mapping

import msgspec
from house import ALONE, CLOSE, CRASHED, PASSED, REFUSED, WRONG, Outcome
from workers import HUNG

SHARED = "shared"
VERDICTS = (PASSED, CLOSE, REFUSED, SHARED, WRONG, CRASHED, HUNG)
NEEDS = (WRONG, CRASHED, HUNG)  # what there must be none of

# The first pattern that a refusal's text has names its group; the text's own names are left out.
_REASONS = tuple(
    (re.compile(pattern, re.DOTALL), reason)
    for pattern, reason in (
        (r"of domain '([\w.]*)'", r"operators of the domain \1"),
        (r"holds training graphs", "training graphs"),
        (r"uses opset ([1-8])\b", "an opset below 9"),
        (r"is of type (\w+)", r"an input or output of type \1"),
        (r"is not a valid ONNX model", "a model that onnx's own checker refuses"),
        (r"is not a tensor|is a sequence|may be absent", "an input or output that is no tensor"),
        (r"draws? random numbers", "an operator that draws random numbers"),
        (r"takes no input", "a model without inputs"),
        (r"no known number of axes", "an input or output without a known number of axes"),
        (r"IR version", "an IR version that ONNX Runtime does not read"),
        (r"Opset (\d+) is under", "an opset that ONNX Runtime does not read yet"),
        (r"opset (\d+)", "an opset that ONNX Runtime does not read yet"),
        (r"implementation for (\w+)\(", r"ONNX Runtime has no kernel for \1 of this type or opset"),
        (r"kernel for (\w+)\(", r"ONNX Runtime has no kernel for \1 of this type or opset"),
        (r"construct locale", "a locale that the machine lacks"),
        (r"the graph declares", "an output of another shape or type than the graph declares"),
        (r"INVALID_GRAPH", "an attribute or form of an operator that ONNX Runtime lacks"),
        (r"not a registered function/op", "an operator that ONNX Runtime lacks"),
        (r"can't be converted to MLDataType", "a type that its Python interface does not take"),
        (r"no engine passed.* is not converted", "operators that OpenVINO does not convert"),
        (r"no engine passed.* is text,", "texts, which OpenVINO does not compute with"),
        (r"no engine passed.* the reference ", "another value than the reference, found by proof"),
        (r"no engine passed.* the engine has ", "an input and an output that OpenVINO makes one"),
        (r"no engine passed.* came out as ", "an output of another shape than declared"),
        (r"in fewer bits", "64-bit numbers that OpenVINO would compute in 32"),
        (r"fails on the sample", "ONNX Runtime fails when it runs the case"),
        (r"Not supported|not supported|unsupported", "the engine does not support the model"),
        (r"node '.*?' \((\w+)\) (.{1,120})", r"\1 \2"),
    )
)


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What a case came to: the word, and for all but `passed` the reason."""

    what: str
    reason: str = ""


Grouped = dict[str, dict[str, list[str]]]  # names of cases by word, then reason
Counted = dict[str, dict[str, int]]  # how many by word, then reason


def verdict(outcomes: Mapping[str, Outcome]) -> Verdict:
    """One verdict from the outcomes by way (ALONE and the targets)."""
    of_targets = {way: outcome for way, outcome in outcomes.items() if way != ALONE}
    for word in (CRASHED, HUNG, WRONG):
        for way, outcome in of_targets.items():
            if outcome.what == word:
                same = word == WRONG and outcomes[ALONE].what == WRONG
                return Verdict(
                    what=SHARED if same else word, reason=f"{way}: {outcome.code} {outcome.text}"
                )
    for word in (PASSED, CLOSE):
        for outcome in of_targets.values():
            if outcome.what == word:
                return Verdict(what=word, reason=outcome.text)
    first = next(iter(of_targets.values()))
    return Verdict(what=REFUSED, reason=reason_of(first))


def reason_of(outcome: Outcome) -> str:
    """The group of a refusal: its code and its cause; of another outcome, its text."""
    if outcome.what != REFUSED:
        return outcome.text
    for pattern, reason in _REASONS:
        found = pattern.search(outcome.text)
        if found:
            return f"{outcome.code}: {found.expand(reason)}"
    text = re.sub(r"\S*/(?=case\.onnx)", "", outcome.text)
    text = re.sub(r"'[^']*'|\[[^]]*\]|\d+", "...", text)
    return f"{outcome.code}: {text[:160]}"


def grouped(found: Iterable[tuple[str, str, str]]) -> Grouped:
    """Case names, sorted, by word and reason, of (name, word, reason); passed ones need no reason."""
    groups: Grouped = {}
    for name, what, reason in found:
        groups.setdefault(what, {}).setdefault("" if what == PASSED else reason, []).append(name)
    return {
        what: {reason: sorted(names) for reason, names in sorted(reasons.items())}
        for what, reasons in groups.items()
    }


def counted(groups: Grouped) -> Counted:
    """How many cases each word and reason has."""
    return {
        what: {reason: len(names) for reason, names in reasons.items()}
        for what, reasons in groups.items()
    }


def counts(groups: Grouped) -> dict[str, int]:
    """How many cases each word has."""
    return {what: sum(map(len, reasons.values())) for what, reasons in groups.items()}
