"""What docs/conformance.md says is so: its counts, its names, and a case of every operator run again."""

from importlib.metadata import version

import page
import pytest
from cases import all_cases, one_an_operator
from house import ALONE, CLOSE, PASSED, WAYS, outcome_of
from verdicts import NEEDS, VERDICTS, verdict

SERVED = (PASSED, CLOSE)
# Together the operators take longer than a test may on a busy machine.
PARTS = 8


def verdicts_told() -> dict[str, str]:
    """The word of every case in the report."""
    whole = page.merged([*page.read_report().house.values()])
    return {
        name: word
        for word, reasons in whole.items()
        for names in reasons.values()
        for name in names
    }


def same_libraries() -> bool:
    told = page.read_report().versions
    return all(told[name] == version(name) for name in ("onnx", "onnxruntime", "openvino"))


def test_the_document_is_that_of_its_json() -> None:
    assert page.page(page.read_report()) == page.PAGE.read_text("utf-8")


def test_the_counts_are_those_of_the_names() -> None:
    """The first table's line of all kinds, counted again from the lists."""
    lines = page.PAGE.read_text("utf-8").splitlines()
    line = next(line for line in lines if line.startswith("| all |"))
    total, *by_word = (int(cell) for cell in line.split("|")[2:-1])
    told = verdicts_told()
    assert total == len(told) == sum(by_word)
    assert by_word == [sum(word == each for each in told.values()) for word in VERDICTS]
    for words in page.read_report().ways.values():
        assert sum(count for reasons in words.values() for count in reasons.values()) == total


def test_nothing_is_wrong_or_crashed() -> None:
    assert {name: word for name, word in verdicts_told().items() if word in NEEDS} == {}


def test_every_mutant_was_served_or_refused() -> None:
    for run in page.read_report().fuzzing:
        words = {word for row in run.counts.values() for word in row}
        assert {
            word for word in words if word != "served" and not word.startswith("refused ")
        } == set()


def test_every_refusal_has_a_reason() -> None:
    for groups in page.read_report().house.values():
        for word, reasons in groups.items():
            assert word == PASSED or all(reasons), word


def test_every_case_of_the_package_is_told() -> None:
    if not same_libraries():
        pytest.skip("the report is of other versions of the libraries")
    assert set(verdicts_told()) == {case.name for case in all_cases()}


@pytest.mark.parametrize("part", range(PARTS))
def test_one_case_of_every_operator_is_served_or_refused(part: int) -> None:
    """And what the report calls served is still served."""
    told, bad = verdicts_told() if same_libraries() else {}, []
    for case in one_an_operator(all_cases())[part::PARTS]:
        outcomes = {way: outcome_of(case, way) for way in WAYS}
        found = verdict(outcomes)
        lost = told.get(case.name) in SERVED and found.what not in SERVED
        if found.what in NEEDS or lost:
            bad.append((case.name, found, outcomes[ALONE].what))
    assert bad == []
