"""TraceSetting and LogSettings."""

import json
import re

import pytest

from appliance import journal
from appliance.deployment import Activate
from appliance.errors import RequestError

GRANTED = {"settings_control": True}
TRACES = {
    "trace_level": ["OFF"],
    "trace_rate": ["1000"],
    "trace_count": ["-1"],
    "trace_file": [""],
    "log_frequency": ["0"],
    "trace_mode": ["triton"],
}
LOGS = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}


def traced(reply):
    return {name: list(value.value) for name, value in reply.settings.items()}


def logged(reply):
    return {
        name: getattr(value, value.WhichOneof("parameter_choice"))
        for name, value in reply.settings.items()
    }


def events(text):
    return [json.loads(line) for line in text.splitlines()]


async def test_both_can_be_read_and_begin_as_in_triton(serve):
    client = await serve()
    assert traced(await client.get_trace_settings()) == TRACES
    assert logged(await client.get_log_settings()) == LOGS


async def test_without_a_grant_nothing_can_be_changed(serve, refused):
    client = await serve()
    told = await refused(client.update_trace_settings(settings={"trace_rate": "1"}))
    assert (told.status, told.text) == (
        "StatusCode.UNAVAILABLE",
        "the server does not support trace",
    )
    told = await refused(client.update_log_settings({"log_info": False}))
    assert (told.status, told.text) == (
        "StatusCode.UNAVAILABLE",
        "the server does not support dynamic logging",
    )
    assert traced(await client.get_trace_settings()) == TRACES
    assert logged(await client.get_log_settings()) == LOGS


async def test_traces_are_sampled_as_set_and_written_to_the_journal(serve, lines):
    client = await serve(server=GRANTED)
    assert not client.traces.on
    changed = await client.update_trace_settings(
        settings={"trace_level": ["TIMESTAMPS"], "trace_rate": "2", "trace_count": "3"}
    )
    assert traced(changed) == {
        **TRACES,
        "trace_level": ["TIMESTAMPS"],
        "trace_rate": ["2"],
        "trace_count": ["3"],
    }
    assert client.traces.on
    assert [client.traces.sample("digits") for _ in range(9)] == [False, True] * 3 + [False] * 3
    assert traced(await client.get_trace_settings())["trace_count"] == ["0"]
    client.traces.write(request_id="r", model="digits", version=1, timestamps={"REQUEST_START": 5})
    changed, written = events(lines())
    assert (changed["event"], changed["to"]["trace_rate"]) == ("trace.changed", "2")
    assert changed["peer"].startswith("ipv4:127.0.0.1:")
    assert written["event"] == "request.traced"
    assert written["timestamps"] == {"REQUEST_START": 5}


async def test_a_model_has_settings_of_its_own_until_they_are_cleared(serve, world):
    await world.decide(Activate(version=1))
    client = await serve(server=GRANTED)
    await client.update_trace_settings(settings={"trace_rate": "7"})
    await client.update_trace_settings("digits", {"trace_level": ["TIMESTAMPS"], "trace_rate": "1"})
    assert traced(await client.get_trace_settings("digits"))["trace_rate"] == ["1"]
    assert traced(await client.get_trace_settings())["trace_level"] == ["OFF"]
    assert client.traces.sample("digits")
    assert not client.traces.sample("other")
    cleared = await client.update_trace_settings("digits", {"trace_rate": None})
    assert traced(cleared)["trace_rate"] == ["7"]
    await client.update_trace_settings("digits", {"trace_level": None})
    assert not client.traces.on
    cleared = await client.update_trace_settings(settings={"trace_rate": None, "trace_count": None})
    assert traced(cleared) == TRACES


@pytest.mark.parametrize(
    ("settings", "status", "text"),
    [
        ({"trace_level": ["OFF", "TIMESTAMPS"]}, "INVALID_ARGUMENT", "Expect only one trace level"),
        ({"trace_level": ["LOUD"]}, "INVALID_ARGUMENT", "unknown trace level 'LOUD'"),
        ({"trace_level": ["TENSORS"]}, "UNIMPLEMENTED", "trace level 'TENSORS' is not served"),
        ({"trace_rate": "x"}, "INVALID_ARGUMENT", "Unable to parse 'trace_rate', got: x"),
        (
            {"trace_rate": "0"},
            "INVALID_ARGUMENT",
            "value is out of range [ 1, 4294967295 ], got: 0",
        ),
        ({"trace_rate": ["1", "2"]}, "INVALID_ARGUMENT", "expect only 1 value for 'trace_rate'"),
        ({"trace_count": "-2"}, "INVALID_ARGUMENT", "Unable to parse 'trace_count'"),
        ({"trace_file": "x"}, "UNIMPLEMENTED", "trace file location can not be updated"),
        ({"log_frequency": "5"}, "UNIMPLEMENTED", "'log_frequency' is always '0'"),
        ({"trace_mode": "opentelemetry"}, "UNIMPLEMENTED", "'trace_mode' is always 'triton'"),
        ({"loudness": "11"}, "INVALID_ARGUMENT", "unknown trace setting 'loudness'"),
    ],
)
async def test_trace_settings_that_mean_nothing_here(serve, refused, settings, status, text):
    client = await serve(server=GRANTED)
    told = await refused(client.update_trace_settings(settings={"trace_rate": "3"} | settings))
    assert told.status == f"StatusCode.{status}"
    assert text in told.text
    assert traced(await client.get_trace_settings()) == TRACES


async def test_traces_of_an_unknown_model(serve, refused):
    client = await serve(server=GRANTED)
    for call in (
        client.get_trace_settings("nothing"),
        client.update_trace_settings("nothing", {"trace_rate": "1"}),
    ):
        told = await refused(call)
        assert told.status == "StatusCode.INVALID_ARGUMENT"
        assert told.text == "Request for unknown model : nothing"


async def test_fixed_settings_may_be_sent_as_they_are(serve):
    client = await serve(server=GRANTED)
    same = await client.update_trace_settings(
        settings={"log_frequency": "0", "trace_mode": "triton", "trace_level": ["OFF"]}
    )
    assert traced(same) == TRACES


async def test_each_level_of_the_journal_is_really_switched(serve, lines):
    client = await serve(server=GRANTED)
    written = {
        "log_info": lambda: journal.event("as.event"),
        "log_warning": lambda: journal.failure("as.warning", RequestError("x", remedy="y")),
        "log_error": lambda: journal.failure("as.error", ValueError("x")),
    }
    for name, write in written.items():
        changed = logged(await client.update_log_settings({name: False}))
        assert changed == {**LOGS, name: False}
        before = len(lines())
        write()
        assert len(lines()) == before
        await client.update_log_settings({name: True})
        before = len(lines())
        write()
        assert len(lines()) > before


async def test_details_are_written_when_asked_for(serve, lines):
    client = await serve(server=GRANTED)
    await client.is_server_live()
    assert "call.made" not in lines()
    await client.update_log_settings({"log_verbose_level": 2})
    await client.is_server_live()
    made = [item for item in events(lines()) if item["event"] == "call.made"]
    assert (made[-1]["call"], made[-1]["level"]) == ("ServerLive", "debug")
    assert made[-1]["peer"].startswith("ipv4:127.0.0.1:")
    await client.update_log_settings({"log_verbose_level": 0})
    before = lines().count("ServerLive")
    await client.is_server_live()
    assert lines().count("ServerLive") == before


async def test_lines_say_when_on_demand(serve, lines):
    client = await serve(server=GRANTED)
    changed = await client.update_log_settings({"log_format": "ISO8601"})
    assert logged(changed)["log_format"] == "ISO8601"
    journal.event("now")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]+\.\d{6}\+00:00", events(lines())[-1]["time"])
    await client.update_log_settings({"log_format": "default"})
    journal.event("now")
    assert "time" not in events(lines())[-1]


async def test_that_lines_are_left_out_is_itself_written(serve, lines):
    client = await serve(server=GRANTED)
    await client.update_log_settings({"log_info": False, "log_warning": False, "log_error": False})
    last = events(lines())[-1]
    assert (last["event"], last["to"]["log_error"]) == ("log.changed", False)
    assert last["peer"].startswith("ipv4:127.0.0.1:")


@pytest.mark.parametrize(
    ("settings", "status", "text"),
    [
        ({"log_file": "x"}, "UNIMPLEMENTED", "log file location can not be updated"),
        ({"log_format": "xml"}, "INVALID_ARGUMENT", "invalid argument for log_format, got: xml"),
        ({"log_info": None}, "INVALID_ARGUMENT", "expect boolean for 'log_info'"),
        ({"log_verbose_level": None}, "INVALID_ARGUMENT", "expect int32 for 'log_verbose_level'"),
        ({"log_format": None}, "INVALID_ARGUMENT", "expect string for 'log_format'"),
        ({"loudness": True}, "INVALID_ARGUMENT", "unknown log setting 'loudness'"),
    ],
)
async def test_log_settings_that_mean_nothing_here(serve, refused, settings, status, text):
    client = await serve(server=GRANTED)
    told = await refused(client.update_log_settings({"log_error": False, **settings}))
    assert told.status == f"StatusCode.{status}"
    assert text in told.text
    assert logged(await client.get_log_settings()) == LOGS
