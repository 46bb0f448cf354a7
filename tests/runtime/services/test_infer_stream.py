"""One stream of inferences: order, room, and its end, over a wire and a data plane in the test's hands."""

import threading
from types import SimpleNamespace

import pytest
from tritonclient.grpc import service_pb2 as oip

from appliance.access import Role
from appliance.errors import Overloaded, RequestError
from runtime.access import Principal
from runtime.answering import Reply
from runtime.services import infer
from runtime.services.infer import STREAM_REQUESTS_MAX, InferCalls

GARBAGE = b"\xff\xff"
SURGERY = Principal("surgery-2", Role.CLIENT)


class Wire:
    """A stream's other side: notes what is asked of it, and takes messages when the test says so."""

    peer, principal, metadata, deadline_ns = "ipv4:127.0.0.1:1", SURGERY, (), None

    def __init__(self):
        self.reads, self.unsent, self.finished = 0, 0, 0
        self.taken = []

    def read(self):
        self.reads += 1

    def send(self, message):
        assert not self.finished
        self.unsent += 1
        self.taken.append(oip.ModelStreamInferResponse.FromString(message))

    def finish(self, refusal=None, trailing=()):
        self.finished += 1


class Plane:
    """A data plane that answers when the test says so."""

    def __init__(self):
        self.asked = []
        self.cancelled = []
        self.at_once = None

    def infer(self, request, then, **given):
        self.asked.append((request.call.sent_id, then))
        if self.at_once is not None:
            then(self.at_once)
        return SimpleNamespace(cancel=lambda: self.cancelled.append(request.call.sent_id))

    def refuse(self, call, error, then, **given):
        self.asked.append((call.sent_id, then))
        then(error)

    def answer(self, number, result=None):
        self.asked[number][1](result or Reply(1, ()))


def message(name):
    return oip.ModelInferRequest(model_name="m", id=name).SerializeToString()


@pytest.fixture
def wire():
    return Wire()


@pytest.fixture
def plane():
    return Plane()


@pytest.fixture
def stream(wire, plane):
    return InferCalls(plane, None).stream(wire)


def ids(wire):
    return [told.infer_response.id for told in wire.taken]


def test_answers_leave_in_the_order_of_their_requests(wire, plane, stream):
    for name in "abc":
        stream.received(message(name))
    plane.answer(2)
    plane.answer(1, RequestError("bad", remedy="none"))
    assert wire.taken == []
    plane.answer(0)
    assert ids(wire) == ["a", "b", "c"]
    assert [told.error_message for told in wire.taken] == ["", "bad", ""]
    assert wire.reads == 4


def test_what_cannot_be_read_is_an_error_in_its_place(wire, plane, stream):
    plane.at_once = Reply(1, ())
    for sent in (GARBAGE, GARBAGE, message("a")):
        stream.received(sent)
    errors = [bool(told.error_message) for told in wire.taken]
    assert errors == [True, True, False]
    assert len(plane.asked) == 3


@pytest.mark.parametrize("step", ["encode_stream", "refusal"])
def test_an_answer_that_cannot_be_encoded_does_not_hold_up_the_others(
    wire, plane, stream, monkeypatch, step
):
    def broken(*_, **__):
        monkeypatch.undo()
        raise ZeroDivisionError("the secret")

    for name in "ab":
        stream.received(message(name))
    monkeypatch.setattr(infer, step, broken)
    plane.answer(0, Overloaded("full", remedy="none") if step == "refusal" else None)
    plane.answer(1)
    first, second = wire.taken
    assert first.error_message.startswith("internal error, incident ")
    assert second.infer_response.id == "b"


def test_a_data_plane_that_crashes_is_an_error_in_its_place(wire, plane, stream, monkeypatch):
    def broken(*_, **__):
        raise ZeroDivisionError("the secret")

    monkeypatch.setattr(plane, "infer", broken)
    stream.received(message("a"))
    assert wire.taken[0].error_message.startswith("internal error, incident ")
    stream.ended()
    assert wire.finished == 1


def test_a_client_that_does_not_read_is_not_read_from(wire, plane, stream):
    plane.at_once = Reply(1, ())
    sent = 0
    while wire.reads > sent:
        stream.received(message(str(sent)))
        sent += 1
        assert sent <= STREAM_REQUESTS_MAX
    assert sent == wire.unsent == STREAM_REQUESTS_MAX
    wire.unsent -= 1
    stream.sent()
    assert wire.reads == sent + 1
    stream.sent()
    assert wire.reads == sent + 1


def test_only_so_many_are_on_their_way(wire, plane, stream):
    for number in range(STREAM_REQUESTS_MAX):
        stream.received(message(str(number)))
    assert wire.reads == STREAM_REQUESTS_MAX
    plane.answer(0)
    assert wire.reads == STREAM_REQUESTS_MAX  # its answer has not left
    wire.unsent -= 1
    stream.sent()
    assert wire.reads == STREAM_REQUESTS_MAX + 1


def test_the_end_comes_after_the_last_answer_and_once(wire, plane, stream):
    for name in "ab":
        stream.received(message(name))
    plane.answer(1)
    stream.ended()
    assert not wire.finished
    plane.answer(0)
    assert (ids(wire), wire.finished) == (["a", "b"], 1)
    stream.sent()
    assert wire.reads == 3


def test_a_stream_without_requests_ends_at_once(wire, stream):
    stream.ended()
    assert wire.finished == 1


def test_what_a_client_that_left_still_waited_for_is_cancelled(wire, plane, stream):
    for name in "ab":
        stream.received(message(name))
    stream.gone()
    assert plane.cancelled == ["a", "b"]
    plane.answer(1)
    plane.answer(0)
    assert wire.taken == []
    assert wire.reads == 3


def test_answers_from_many_threads_keep_their_order(wire, plane, stream):
    names = [str(number) for number in range(STREAM_REQUESTS_MAX)]
    for name in names:
        stream.received(message(name))
    stream.ended()
    at_once = threading.Barrier(4)

    def answer(numbers):
        at_once.wait()
        for number in numbers:
            plane.answer(number)

    parts = [range(first, STREAM_REQUESTS_MAX, 4) for first in range(4)]
    threads = [threading.Thread(target=answer, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert ids(wire) == names
    assert wire.finished == 1


class Exchange:
    """A unary call: `ends` has all that ended it, the first of which counts; `fault` strikes once."""

    peer, principal, metadata, deadline_ns = "ipv4:127.0.0.1:1", SURGERY, (), None

    def __init__(self, fault=None):
        self.ends, self.fault = [], fault

    def reply(self, message, trailing=()):
        fault, self.fault = self.fault, None
        if fault:
            raise fault
        self.ends.append((message, trailing))

    def refuse(self, refusal):
        self.ends.append(refusal)


@pytest.mark.parametrize("step", ["encode", "reply"])
def test_a_reply_that_cannot_be_sent_is_an_incident(monkeypatch, step):
    def broken(*_, **__):
        raise ZeroDivisionError("the secret")

    exchange = Exchange(fault=ZeroDivisionError("the secret") if step == "reply" else None)
    if step == "encode":
        monkeypatch.setattr(infer, "encode", broken)
    infer._reply(exchange, infer._unread(b"", "p"), Reply(1, ()))
    (refused,) = exchange.ends
    assert refused.details.startswith("internal error, incident ")
    assert refused.trailing[0][0] == "holdfast-request-id"


def test_who_asks_is_passed_on(wire):
    heard = []
    plane = SimpleNamespace(
        infer=lambda request, then, **given: (
            heard.append(given["principal"]) or SimpleNamespace(waiting=False)
        ),
        refuse=lambda call, error, then, **given: heard.append(given["principal"]),
    )
    calls = InferCalls(plane, None)
    stream = calls.stream(wire)
    for sent in (message("a"), GARBAGE):
        stream.received(sent)
        calls.infer(sent, Exchange())
    assert heard == [SURGERY] * 4
