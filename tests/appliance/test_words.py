"""Names, numbers, times, errors and their exit codes."""

import io
import json
import logging

import pytest

from appliance import errors, exits, journal
from appliance.clock import SystemClock, boot_id, timestamp
from appliance.errors import ApplianceError, UnknownModel, UnknownVersion
from appliance.version import check_name, parse_version, release


def kinds(root=ApplianceError):
    return [root, *(kind for child in root.__subclasses__() for kind in kinds(child))]


def test_every_error_has_a_code_of_its_own():
    codes = [kind.code for kind in kinds()]
    assert len(codes) == len(set(codes))


def test_every_error_is_in_the_tree_that_the_module_draws():
    drawn = errors.__doc__
    for kind in kinds():
        assert kind.__name__ in drawn
        assert kind is ApplianceError or kind.code in drawn


def test_every_error_has_an_exit_code():
    for kind in kinds():
        code = exits.exit_code(kind("what happened", remedy="what to do"))
        assert kind is ApplianceError or code >= 10
    assert exits.exit_code(KeyboardInterrupt()) == 130
    assert exits.exit_code(ValueError()) == exits.UNEXPECTED


def test_an_error_carries_message_and_remedy():
    error = UnknownModel("no such model", remedy="use another")
    assert (str(error), error.remedy, error.code) == (
        "no such model",
        "use another",
        "model.unknown",
    )


@pytest.mark.parametrize("name", ["digits", "a", "A-1_b.c", "9lives"])
def test_good_names(name):
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-a", "a b", "é", "a" * 129, "a\n"])
def test_bad_names(name):
    with pytest.raises(UnknownModel):
        check_name(name)


def test_version_numbers():
    assert parse_version("12") == 12
    for text in ("", "0", "01", "-1", "1.0", "x", "1\n", "9" * 19):
        with pytest.raises(UnknownVersion):
            parse_version(text)


def test_the_release_has_a_number():
    assert release()[0].isdigit()


def test_times_are_written_in_utc_with_microseconds():
    assert timestamp(1_700_000_000_123_456_789) == "2023-11-14T22:13:20.123456Z"


def test_the_system_clock_goes_forward():
    clock = SystemClock()
    assert clock.monotonic_ns() <= clock.monotonic_ns()
    assert clock.wall_ns() > 1_700_000_000 * 10**9
    assert len(boot_id()) == 36


@pytest.fixture
def lines():
    stream = io.StringIO()
    logger = logging.getLogger("holdfast")
    before = (logger.handlers[:], logger.level, logger.propagate)
    journal.start_journal(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    logger.handlers[:], logger.level, logger.propagate = before


def test_an_event_is_one_json_line(lines):
    journal.event("version.loaded", model="digits", version=2)
    assert lines() == [
        {"level": "info", "event": "version.loaded", "model": "digits", "version": 2}
    ]


def test_a_known_failure_is_told_with_code_and_remedy(lines):
    journal.failure("decision.failed", UnknownModel("none", remedy="try"), model="m")
    assert lines() == [
        {
            "level": "warning",
            "event": "decision.failed",
            "model": "m",
            "code": "model.unknown",
            "message": "none",
            "remedy": "try",
        }
    ]


def test_an_unknown_failure_is_told_with_its_traceback(lines):
    try:
        raise ValueError("boom")
    except ValueError as error:
        journal.failure("request.crashed", error, incident="i")
    (line,) = lines()
    assert (line["level"], line["message"], line["incident"]) == ("error", "boom", "i")
    assert "ValueError: boom" in line["traceback"]
