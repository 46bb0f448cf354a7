"""Which requests are traced, and what is told of them."""

import subprocess
import sys

import pytest

from appliance import journal
from appliance.audit.kinds import Gap
from appliance.config import TracesConfig
from appliance.deployment import Activate
from appliance.errors import ConfigError, UnknownVersion
from runtime.traces import Trace, Traces, open_traces
from runtime.traces.sampling import SECOND_NS

NAMED = (("user-agent", "x"), ("traceparent", "00-1-2-01"))


class Export:
    """Keeps what is sent; `sampled` is what every caller says of its trace."""

    def __init__(self):
        self.written = []
        self.sampled = True
        self.closed = False

    def asked(self, metadata):
        return self.sampled

    def write(self, trace, metadata):
        self.written.append((trace, metadata))

    def close(self):
        self.closed = True


def trace(**other):
    return Trace(
        **{
            "request_id": "r",
            "model": "m",
            "version": 1,
            "route": "active",
            "code": "",
            "began_ns": 100,
            "ended_ns": 200,
            "wall_ns": 1200,
            "rows": 2,
            "batch_rows": 6,
            "queue_ns": 10,
            "before_ns": 20,
            "compute_ns": 30,
            "after_ns": 5,
            "made_ns": 170,
            "recorded_ns": 190,
        }
        | other
    )


def end(traces, *, metadata=(), now_ns=0):
    traces.ended("m", metadata, now_ns, trace)


def sent(export, traces, **how):
    before = len(export.written)
    end(traces, **how)
    return len(export.written) > before


def test_nothing_is_traced_unless_asked_for():
    traces = Traces()
    assert not traces.on
    traces.ended("m", NAMED, 0, pytest.fail)
    traces.close()


def test_the_parts_of_a_request_follow_each_other():
    assert trace().parts() == {
        "queue": (100, 110),
        "before": (110, 130),
        "engine": (130, 160),
        "after": (160, 165),
        "record": (170, 190),
    }
    assert trace(batch_rows=0).parts() == {}
    assert trace().marks() == {
        "REQUEST_START": 100,
        "COMPUTE_START": 110,
        "COMPUTE_INPUT_END": 130,
        "COMPUTE_OUTPUT_START": 160,
        "COMPUTE_END": 165,
        "REQUEST_END": 200,
    }


def test_a_share_of_the_requests_becomes_spans():
    export = Export()
    every = Traces(export, TracesConfig(share_per_mille=1000))
    assert every.on
    assert sent(export, every)
    none = Traces(export, TracesConfig(share_per_mille=0))
    assert none.on
    assert not sent(export, none)


def test_a_caller_says_itself_whether_its_request_belongs_to_a_trace():
    export = Export()
    none = Traces(export, TracesConfig(share_per_mille=0))
    assert sent(export, none, metadata=NAMED)
    assert export.written[-1][1] == NAMED
    export.sampled = False
    every = Traces(export, TracesConfig(share_per_mille=1000))
    assert not sent(export, every, metadata=NAMED)


@pytest.mark.parametrize(("second_max", "part_max", "part_ns"), [(50, 5, 10**8), (3, 1, 333333333)])
def test_no_more_are_sent_in_a_second_than_set_whoever_asks(second_max, part_max, part_ns):
    export = Export()
    traces = Traces(export, TracesConfig(requests_per_second_max=second_max))
    for now in (0, part_ns - 1):
        for _ in range(10):
            end(traces, metadata=NAMED, now_ns=now)
    assert len(export.written) == part_max
    for now in range(0, SECOND_NS, 10**6):
        end(traces, metadata=NAMED, now_ns=part_ns + now)
    assert part_max + second_max <= len(export.written) <= part_max + second_max + 1


def test_spans_and_the_journal_are_asked_apart(capsys):
    journal.start_journal()
    export = Export()
    traces = Traces(export, TracesConfig(share_per_mille=0))
    traces.change("", {"timestamps": True, "rate": 1})
    end(traces)
    assert not export.written
    assert '"event":"request.traced","request_id":"r"' in capsys.readouterr().err
    traces.change("", {"timestamps": None})
    assert traces.on  # for the spans
    end(traces)
    assert not capsys.readouterr().err
    traces.close()
    assert export.closed


@pytest.fixture
def traced(world):
    """The world's requests are all traced; what was written, as traces."""
    export = Export()
    rooms = world.dataplane._rooms
    traces = Traces(export, TracesConfig(share_per_mille=1000, requests_per_second_max=10**6))
    world.dataplane._rooms = rooms._replace(traces=traces)
    return lambda: [written for written, _ in export.written]


async def settled(world):
    """Whatever the recorder does after the reply is done."""
    await world.recorder.appended(lambda: Gap(count=1, reason="test"))


async def test_an_answered_request_tells_where_its_time_went(world, traced):
    await world.decide(Activate(version=1))
    await world.ask()
    await settled(world)
    (told,) = traced()
    assert (told.request_id, told.model, told.version, told.route) == ("r", "digits", 1, "active")
    assert (told.code, told.rows, told.batch_rows) == ("", 2, 2)
    begins = [begin for begin, _ in told.parts().values()]
    assert begins == sorted(begins)
    assert told.began_ns == begins[0]
    assert told.made_ns <= told.recorded_ns <= told.ended_ns


async def test_a_refused_request_tells_its_code(world, traced):
    await world.decide(Activate(version=1))
    with pytest.raises(UnknownVersion):
        await world.ask("7")
    await settled(world)
    (told,) = traced()
    assert (told.version, told.route, told.code) == (0, "", "version.unknown")
    assert told.parts() == {}
    assert told.ended_ns >= told.began_ns


async def test_a_request_that_fails_within_a_version_names_it(world, traced):
    await world.decide(Activate(version=1))
    with pytest.raises(ZeroDivisionError):
        await world.ask(arrays=lambda: 1 / 0)
    await settled(world)
    (told,) = traced()
    assert (told.version, told.route, told.code) == (1, "active", "internal")
    assert world.metrics.model("digits").version(1).codes == {"internal": 1}


def test_an_endpoint_must_be_a_url():
    with pytest.raises(ConfigError, match="is not a URL"):
        open_traces(TracesConfig(endpoint="127.0.0.1:4317"), service="x")


def test_an_endpoint_without_the_extra_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    for name in list(sys.modules):
        if name == "runtime.traces.spans" or name.startswith("opentelemetry."):
            monkeypatch.delitem(sys.modules, name)
    with pytest.raises(ConfigError, match="the extra 'otel' is not installed") as missing:
        open_traces(TracesConfig(endpoint="http://127.0.0.1:4317"), service="x")
    assert "holdfast[otel]" in missing.value.remedy


def test_without_an_endpoint_no_library_is_loaded():
    code = (
        "import sys; from runtime.traces import open_traces; "
        "from appliance.config import TracesConfig; "
        "assert not open_traces(TracesConfig(), service='x').on; "
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
