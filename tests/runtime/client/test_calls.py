"""Both clients against a scripted server: tries, deadlines, errors, tokens."""

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2 as oip

from appliance import errors
from runtime.client import BFloat16, ControlClient, Retry
from runtime.client.failures import _by_code
from runtime.protocol import CODE_KEY, REMEDY_KEY
from tests.runtime.client.conftest import Refused, echo

X = {"x": np.arange(3, dtype=np.float32)}
UNAVAILABLE = Refused(grpc.StatusCode.UNAVAILABLE)
OTHERS = [
    status
    for status in grpc.StatusCode
    if status not in (grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE)
]
KINDS = list(_by_code().values())


def test_an_answer_comes_back_whole(client, script):
    script.trailing = (("holdfast-leaf", "12"), ("other", "x"))
    inputs = X | {"texts": np.array([["a", b"b"]], object), "half": BFloat16(np.float32(0.1))}
    reply = client.infer("m", inputs, request_id="r")
    assert (reply.model, reply.version, reply.request_id) == ("m", "7", "r")
    assert reply.receipt == {"holdfast-leaf": "12"}
    np.testing.assert_array_equal(reply.outputs["x"], X["x"], strict=True)
    assert reply.outputs["texts"].tolist() == [[b"a", b"b"]]
    assert reply.outputs["half"] == np.float32(0.10009765625)


def test_an_unavailable_server_is_asked_again_with_growing_waits(client, script, steps):
    script.answers += [UNAVAILABLE] * 3
    assert client.infer("m", X, request_id="r").outputs
    assert steps.slept == pytest.approx([0.075, 0.15, 0.3])
    assert [request.id for request in script.requests] == ["r"] * 4


def test_the_last_try_says_what_was_wrong(connect, script, address, steps):
    script.answers += [UNAVAILABLE] * 3
    client = connect(address, retry=Retry(attempts_max=3))
    with pytest.raises(errors.Unreachable, match=f"{address} does not answer: refused"):
        client.infer("m", X)
    assert len(steps.slept) == 2


@pytest.mark.parametrize("status", OTHERS)
def test_nothing_but_unavailable_is_tried_again(client, script, steps, status):
    script.answers.append(Refused(status, trailing=(("grpc-retry-pushback-ms", "1"),)))
    with pytest.raises(errors.ApplianceError):
        client.infer("m", X)
    assert (len(script.requests), steps.slept) == (1, [])


def test_a_server_that_had_begun_to_answer_is_not_asked_again(client, script):
    begun = Refused(grpc.StatusCode.UNAVAILABLE, initial=(("began", "yes"),))
    script.answers.append(begun)
    with pytest.raises(errors.Unreachable):
        client.infer("m", X)
    assert len(script.requests) == 1


def test_the_wait_that_the_server_asks_for_is_kept(client, script, steps):
    key = "grpc-retry-pushback-ms"
    script.answers += [Refused(grpc.StatusCode.UNAVAILABLE, trailing=((key, "1234"),)), UNAVAILABLE]
    client.infer("m", X)
    assert steps.slept == pytest.approx([1.234, 0.075])
    script.answers.append(Refused(grpc.StatusCode.UNAVAILABLE, trailing=((key, "-1"),)))
    with pytest.raises(errors.Unreachable):
        client.infer("m", X)


def test_tries_and_waits_share_one_deadline(connect, script, address, steps):
    script.answers += [UNAVAILABLE] * 9
    retry = Retry(attempts_max=9, first_wait_seconds=400.0, wait_seconds_max=500.0)
    with pytest.raises(errors.Unreachable):
        connect(address, retry=retry).infer("m", X, deadline_seconds=800.0)
    assert steps.slept == [300.0, 375.0]
    # A call is on its way for some time of its own.
    assert [round(left, -2) for left in script.deadlines] == [800, 500, 100]


def test_an_answer_that_is_late_is_given_up(client, script):
    def hang(request):
        script.left.wait()
        return echo(request)  # the next request's, where the first one was given up before it came

    script.answers.append(hang)
    with pytest.raises(errors.DeadlinePassed, match="did not answer in time"):
        client.infer("m", X, deadline_seconds=0.05)
    script.left.set()
    assert client.infer("m", X, deadline_seconds=30.0).outputs


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.code)
def test_an_error_is_the_class_it_was_raised_as_with_its_remedy(client, script, kind):
    trailing = ((CODE_KEY, kind.code), (REMEDY_KEY, "schlüssel".encode()))
    script.answers.append(Refused(grpc.StatusCode.INTERNAL, "what happened", trailing))
    with pytest.raises(errors.ApplianceError) as caught:
        client.infer("m", X)
    assert type(caught.value) is kind
    assert (str(caught.value), caught.value.remedy) == ("what happened", "schlüssel")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (grpc.StatusCode.INVALID_ARGUMENT, errors.RequestError),
        (grpc.StatusCode.UNIMPLEMENTED, errors.Unsupported),
        (grpc.StatusCode.NOT_FOUND, errors.UnknownModel),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, errors.Overloaded),
        (grpc.StatusCode.CANCELLED, errors.Unreachable),
        (grpc.StatusCode.DEADLINE_EXCEEDED, errors.DeadlinePassed),
        (grpc.StatusCode.PERMISSION_DENIED, errors.ApplianceError),
        (grpc.StatusCode.INTERNAL, errors.ApplianceError),
    ],
)
def test_errors_of_other_servers_come_by_their_status(client, script, status, kind):
    script.answers.append(Refused(status, "its own words", ((CODE_KEY, "unheard.of"),)))
    with pytest.raises(errors.ApplianceError, match="its own words") as caught:
        client.infer("m", X)
    assert type(caught.value) is kind
    assert caught.value.remedy


def test_a_message_over_the_servers_limit_is_told_as_that(connect, serve, address):
    serve(address, options=(("grpc.max_receive_message_length", 1000),))
    with pytest.raises(errors.RequestLimit, match="larger than max"):
        connect(address).infer("m", {"x": np.zeros(1000, np.uint8)})


def test_replies_may_be_larger_than_grpc_likes(client, script):
    large = {"x": np.zeros(5 << 20, np.uint8)}
    script.answers.append(
        oip.ModelInferResponse(
            outputs=[{"name": "y", "datatype": "UINT8", "shape": (5 << 20,)}],
            raw_output_contents=[large["x"].tobytes()],
        )
    )
    assert client.infer("m", X).outputs["y"].nbytes == 5 << 20


def test_readiness_is_a_yes_or_a_no_after_one_try(client, script, steps):
    assert client.ready()
    assert client.ready("m")
    assert not client.ready("m", "2")
    for status in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.NOT_FOUND):
        script.answers.append(Refused(status))
        assert not client.ready("m")
    script.answers.append(Refused(grpc.StatusCode.INVALID_ARGUMENT, "version string 'x'"))
    with pytest.raises(errors.RequestError, match="version string"):
        client.ready("m", "x")
    with pytest.raises(errors.RequestError, match="not implemented"):
        client.live()
    assert steps.slept == []


def test_nobody_there_is_not_live_and_unreachable(connect, address, steps):
    client = connect(address)
    assert not client.live()
    assert not client.ready()
    with pytest.raises(errors.Unreachable, match="does not answer"):
        client.metadata("m")
    assert len(steps.slept) == 4


def test_a_token_goes_with_every_call(connect, script, address):
    connect(address, token="secret").infer("m", X)
    assert script.metadata[0]["authorization"] == "Bearer secret"


@pytest.mark.parametrize("here", ["127.8.0.1:9", "ipv4:127.0.0.1:9", "[::1]:9", "ipv6:[::1]:9"])
def test_a_token_needs_no_tls_on_this_box(connect, here):
    connect(here, token="secret")


@pytest.mark.parametrize(
    "away",
    [
        "10.0.0.7:8001",
        "dns:///localhost.example:8001",
        "127.0.0.1.example:8001",
        "ipv4:127.0.0.1:8001,10.0.0.7:8001",
        "[::1],10.0.0.7:8001",
    ],
)
def test_a_token_does_not_leave_the_box_in_clear_text(connect, away):
    with pytest.raises(errors.ConfigError, match="clear text") as caught:
        connect(away, token="secret")
    assert "TLS" in caught.value.remedy


def test_the_control_client_tells_a_foreign_server_from_none(script, address, tmp_path):
    with ControlClient(tmp_path / "s") as control:
        with pytest.raises(errors.ApplianceError, match="UNIMPLEMENTED") as caught:
            control.status()
    assert type(caught.value) is errors.ApplianceError
    with ControlClient(tmp_path / "none") as control:
        with pytest.raises(errors.Unreachable, match="no runtime answers on"):
            next(control.watch(100))
