"""Who is let in, what the others are told, and what is recorded of them."""

import grpc
import pytest
from tritonclient.grpc import service_pb2 as oip

from appliance.access import Role, revoke_tokens
from appliance.config import Config, PrincipalConfig
from appliance.errors import Forbidden, Overloaded, Unidentified
from runtime.access import ANYONE, Principal
from runtime.interceptors import Refusal

LINE_3 = b"spiffe://plant/client/line-3"
LOAD = "/inference.GRPCInferenceService/RepositoryModelLoad"


def told(answer):
    """The code of a refusal, which names the record it was written down as."""
    assert isinstance(answer, Refusal)
    trailing = dict(answer.trailing)
    assert trailing["holdfast-request-id"] == "id-1"
    return trailing["holdfast-code"]


def test_an_open_box_lets_anyone_in_and_holds_those_who_show_a_token_to_it(site, arrive):
    door = site.door("127.0.0.1:8001", client_ca="")
    assert door.admit(arrive()) is ANYONE
    assert door.admit(arrive(token="Bearer none")) is ANYONE  # this box has no tokens
    token = site.token()
    door.tokens.look()
    assert door.admit(arrive()) is ANYONE
    assert door.admit(arrive(token=token)).name == "token:line-3"
    assert told(door.admit(arrive(token="Bearer none"))) == "access.unidentified"


def test_a_box_that_is_closed_on_loopback_lets_nobody_in_without_a_token(site, arrive):
    door = site.door("127.0.0.1:8001", client_ca="", open_on_loopback=False)
    assert told(door.admit(arrive())) == "access.unidentified"


def test_a_certificate_names_its_principal_and_states_its_role(site, arrive):
    door = site.door()
    shown = arrive(pem=b"1", peer_uri=[b"urn:x", LINE_3], x509_common_name=[b"other"])
    principal = door.admit(shown)
    assert (principal.name, principal.role) == (LINE_3.decode(), Role.CLIENT)
    assert door.admit(arrive(pem=b"1")) is principal  # known by its bytes from now on
    assert not site.recorder.records


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ({"x509_common_name": [b"line-3"]}, "has no role here"),
        ({"peer_uri": [b"spiffe://plant/ns/default"]}, "has no role here"),
        ({"peer_uri": [b"spiffe://plant/client"]}, "has no role here"),
        ({"peer_uri": [b"spiffe://plant/client/"]}, "is no SPIFFE id"),
        ({"peer_uri": [b"spiffe://other/client/line-3"]}, "another site"),
        ({"peer_uri": [LINE_3, b"spiffe://plant/operator/x"]}, "2 SPIFFE ids"),
        ({"peer_dns": [LINE_3]}, "names nobody"),
        ({"x509_common_name": [b""]}, "names nobody"),
    ],
)
def test_a_certificate_without_a_role_or_a_name_is_refused(site, arrive, names, why):
    door = site.door(site="plant")
    answer = door.admit(arrive(pem=b"1", **names))
    assert told(answer) == "access.unidentified"
    assert answer.code is grpc.StatusCode.UNAUTHENTICATED
    assert why in answer.details


def test_the_configuration_gives_roles_to_names(site, arrive):
    door = site.door(
        certificate_role="client",
        principals=(
            PrincipalConfig(name="cn:surgery-2", role="auditor"),
            PrincipalConfig(name=LINE_3.decode(), role="none"),
            PrincipalConfig(name="token:line-3", role="client", models=("digits",)),
        ),
    )
    assert door.admit(arrive(pem=b"1", x509_common_name=[b"line-9"])).role is Role.CLIENT
    surgery = arrive("/grpc.health.v1.Health/Check", pem=b"2", x509_common_name=[b"surgery-2"])
    assert door.admit(surgery).role is Role.AUDITOR
    assert told(door.admit(arrive(pem=b"3", peer_uri=[LINE_3]))) == "access.unidentified"
    token = site.token(models=("digits", "others"))
    door.tokens.look()
    assert door.admit(arrive(token=token)).models == {"digits"}


def test_a_role_that_a_call_does_not_name_is_refused_and_recorded(site, arrive):
    door = site.door()
    answer = door.admit(arrive(LOAD, pem=b"1", peer_uri=[LINE_3]))
    assert told(answer) == "access.forbidden"
    assert answer.code is grpc.StatusCode.PERMISSION_DENIED
    (record,) = site.recorder.records
    assert (record.principal, record.code, record.peer, record.request_id) == (
        LINE_3.decode(),
        "access.forbidden",
        "ipv4:10.0.0.7:40212",
        "id-1",
    )
    assert LOAD in record.message
    assert site.counted == ["access.forbidden"]


def test_a_call_that_is_not_in_the_table_is_refused_to_everyone(site, arrive):
    door = site.door()
    for role in Role:
        name = f"spiffe://plant/{role}/x".encode()
        answer = door.admit(arrive("/holdfast.Secret/Open", pem=name, peer_uri=[name]))
        assert told(answer) == "access.forbidden"
        assert "nobody may" in dict(answer.trailing)["holdfast-remedy-bin"].decode()


def test_a_full_log_does_not_let_anybody_in(site, arrive):
    site.recorder.full = Overloaded("full", remedy="wait")
    assert told(site.door().admit(arrive())) == "access.unidentified"


def test_a_flood_of_refusals_reaches_the_recorder_as_few_and_one_count(site, arrive):
    door = site.door()
    singly = Config().audit.refusals_singly
    for _ in range(1000):
        assert told(door.admit(arrive())) == "access.unidentified"
    assert len(site.recorder.records) == singly
    assert len(site.counted) == 1000
    door.look()
    assert len(site.recorder.records) == singly  # its minute is not over
    site.clock.monotonic += 61 * 10**9
    door.look()
    assert site.recorder.records[-1].count == 1000 - singly
    for _ in range(singly + 7):
        door.admit(arrive())
    door.look(leaving=True)
    assert site.recorder.records[-1].count == 7


def test_a_fault_of_our_own_lets_nobody_in(site, arrive):
    arrival = arrive(metadata=(None,))
    answer = site.door().admit(arrival)
    assert answer.code is grpc.StatusCode.INTERNAL


@pytest.mark.parametrize("by", [b"1", LINE_3.decode()])
def test_what_is_denied_is_refused_at_once_and_its_open_streams_end(site, arrive, by):
    door = site.door()
    known, other = arrive(pem=b"1", peer_uri=[LINE_3]), arrive(pem=b"2", x509_common_name=[b"x"])
    principal = door.admit(known)
    principal.check("digits")
    site.denied.add(by)
    door.forget()
    assert told(door.admit(known)) == "access.unidentified"
    with pytest.raises(Unidentified, match="revoked"):
        principal.check("digits")
    assert told(door.admit(other)) == "access.unidentified"


def test_the_allowance_is_one_for_all_that_a_principal_shows(site, arrive):
    door = site.door(calls_max=2)
    tokens = [site.token(), site.token()]
    door.tokens.look()
    first, second = [door.admit(arrive(token=token)) for token in tokens]
    answer = door.admit(arrive(token=tokens[0]))
    assert told(answer) == "access.limit"
    assert answer.code is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert site.recorder.records[0].principal == "token:line-3"
    assert first.allowance is second.allowance
    first.allowance.leave()
    assert isinstance(door.admit(arrive(token=tokens[1])), Principal)


def test_a_principal_may_have_limits_of_its_own(site, arrive):
    own = PrincipalConfig(name=LINE_3.decode(), role="client", calls_max=1)
    door = site.door(principals=(own,))
    shown = arrive(pem=b"1", peer_uri=[LINE_3])
    assert isinstance(door.admit(shown), Principal)
    assert told(door.admit(shown)) == "access.limit"


def test_what_is_remembered_is_bounded(site, arrive, monkeypatch):
    monkeypatch.setattr("runtime.access.door.KNOWN_MAX", 2)
    door = site.door(certificate_role="client")
    held = door.admit(arrive(pem=b"0", x509_common_name=[b"0"]))
    for number in range(1, 10):
        name = str(number).encode()
        door.admit(arrive(pem=name, x509_common_name=[name])).allowance.leave()
    again = door.admit(arrive(pem=b"0", x509_common_name=[b"0"]))
    assert again.allowance is held.allowance  # what is in use is not forgotten


@pytest.mark.parametrize("method", ["ModelMetadata", "ModelStatistics", "LogSettings"])
async def test_a_guarded_call_is_for_the_models_and_settings_that_a_principal_may(site, method):
    class Named:
        def __init__(self, **given):
            self.__dict__.update(given)

    async def answer(request, context):
        return Named(model_stats=[Named(name="digits"), Named(name="others")])

    path = f"/inference.GRPCInferenceService/{method}"
    door = site.door()
    guarded = door.guarded(path, answer)
    context = Named(
        principal=Principal("token:x", Role.CLIENT, frozenset({"digits"})), peer=lambda: "p"
    )
    changing = {"name": "digits", "settings": {"log_info": 1} if method == "LogSettings" else {}}
    if method == "LogSettings":
        with pytest.raises(Forbidden, match="not change"):
            await guarded(Named(**changing), context)
        context.principal = ANYONE
        await guarded(Named(**changing), context)
    else:
        with pytest.raises(Forbidden, match="may not ask model 'others'"):
            await guarded(Named(name="others", settings={}), context)
        reply = await guarded(Named(name="", settings={}), context)
        kept = ["digits"] if method == "ModelStatistics" else ["digits", "others"]
        assert [entry.name for entry in reply.model_stats] == kept
    assert [record.code for record in site.recorder.records] == ["access.forbidden"]


@pytest.mark.parametrize("call", ["Load", "Unload"])
async def test_an_operator_of_some_models_steers_no_others(site, call):
    loaded = []

    async def answer(request, context):
        loaded.append(request.model_name)

    class Context:
        principal = Principal("token:x", Role.OPERATOR, frozenset({"digits"}))
        peer = staticmethod(lambda: "p")

    guarded = site.door().guarded(f"/inference.GRPCInferenceService/RepositoryModel{call}", answer)
    request = getattr(oip, f"RepositoryModel{call}Request")
    await guarded(request(model_name="digits"), Context)
    with pytest.raises(Forbidden, match="may not ask model 'others'"):
        await guarded(request(model_name="others"), Context)
    assert loaded == ["digits"]
    assert [record.code for record in site.recorder.records] == ["access.forbidden"]


def test_a_call_without_models_or_settings_is_not_guarded(site):
    answer = object()
    path = "/inference.GRPCInferenceService/ServerLive"
    assert site.door().guarded(path, answer) is answer


def test_a_revoked_token_is_refused_within_a_look(site, arrive):
    door = site.door(client_ca="")
    token = site.token()
    door.tokens.look()
    principal = door.admit(arrive(token=token))
    revoke_tokens(site.state.tokens, "line-3", now_ns=site.clock.wall)
    door.tokens.look()
    assert told(door.admit(arrive(token=token))) == "access.unidentified"
    with pytest.raises(Unidentified, match="revoked"):
        principal.check("digits")


def test_a_denial_ends_open_streams_however_often_the_list_changed_before(site, arrive):
    door = site.door()
    shown = arrive(pem=b"1", peer_uri=[LINE_3])
    principal = door.admit(shown)
    door.forget()
    assert door.admit(shown) is principal
    site.denied.add(b"1")
    door.forget()
    assert not principal.standing


def test_whom_a_denial_is_felling_is_not_let_in_meanwhile(site, arrive):
    door = site.door()
    shown = arrive(pem=b"1", peer_uri=[LINE_3])
    told_meanwhile = []

    class Asks:
        def fell(self):
            told_meanwhile.append(told(door.admit(shown)))

    asks = Asks()
    door.admit(shown).follow(asks)
    site.denied.add(b"1")
    door.forget()
    assert told_meanwhile == ["access.unidentified"]
    assert told(door.admit(shown)) == "access.unidentified"


def test_a_denial_finds_an_open_stream_though_many_others_came(site, arrive, monkeypatch):
    monkeypatch.setattr("runtime.access.door.KNOWN_MAX", 2)
    door = site.door(certificate_role="client")
    held = door.admit(arrive(pem=b"0", x509_common_name=[b"0"]))
    for number in range(1, 10):
        name = str(number).encode()
        door.admit(arrive(pem=name, x509_common_name=[name])).allowance.leave()
    site.denied.add(b"0")
    door.forget()
    assert not held.standing


def test_a_certificate_that_was_denied_before_it_came_is_not_remembered(site, arrive):
    door = site.door()
    site.denied.add(b"1")
    shown = arrive(pem=b"1", peer_uri=[LINE_3])
    for _ in range(2):
        assert told(door.admit(shown)) == "access.unidentified"


def test_several_authorizations_are_refused(site, arrive):
    door = site.door(client_ca="")
    token = site.token()
    door.tokens.look()
    twice = (("authorization", token), ("authorization", "Bearer none"))
    assert told(door.admit(arrive(metadata=twice))) == "access.unidentified"
    assert told(door.admit(arrive(metadata=twice[::-1]))) == "access.unidentified"


@pytest.mark.parametrize(
    "name",
    [
        b"spiffe://plant/client/../operator/x",
        b"spiffe://plant/client//x",
        b"spiffe://plant/operator/x?y",
        b"spiffe://plant/client/line%2d3",
        b"spiffe://plant/client/a\nb",
        b"spiffe://Plant/client/x",
        b"SPIFFE://plant/client/x",
        b"spiffe:///client/x",
        b"spiffe://plant/client/" + b"x" * 300,
    ],
)
def test_an_id_that_is_not_of_spiffes_form_is_refused(site, arrive, name):
    door = site.door(certificate_role="client")
    shown = arrive(pem=b"1", peer_uri=[name], x509_common_name=[b"x"])
    assert told(door.admit(shown)) == "access.unidentified"


@pytest.mark.parametrize("name", [b"a\nb", b"a\x00", b"\xff", b"x" * 300, "a\u202eb".encode()])
def test_a_common_name_that_could_be_taken_for_another_is_refused(site, arrive, name):
    door = site.door(certificate_role="client")
    shown = arrive(pem=b"1", x509_common_name=[name])
    assert told(door.admit(shown)) == "access.unidentified"
