"""The door: every call of the inference port passes it before its message is read.

Knows: what a caller shows (token, certificate), and the order of the questions: who, may it, is there room.
Rules: it never raises and never waits, for the wire's own thread asks; a refusal is recorded, and told
without waiting for its record, so that strangers hold nothing up; floods of them are counted here, before
they reach the recorder. Leaves to others: the wire, the model of an inference (`runtime.dataplane`).
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from threading import Lock
from typing import Any, Protocol

from appliance.access import Role, Token
from appliance.audit.kinds import AnyRecord, Failure, Refusals
from appliance.clock import Clock
from appliance.config import AccessConfig, Config, PrincipalConfig
from appliance.errors import AccessError, ApplianceError, Forbidden, Overloaded, Unidentified
from runtime.access.allowance import Allowance
from runtime.access.binding import is_open
from runtime.access.methods import METHODS, check_role
from runtime.access.principal import ANYONE, PEM, Principal, certificate_name, stated_role
from runtime.access.tokens import KEY, Tokens
from runtime.floods import Floods
from runtime.interceptors import Refusal, refusal
from runtime.protocol import REQUEST_ID_KEY

# Certificates, and allowances of principals, that are remembered; a site has fewer.
KNOWN_MAX = 4096
MESSAGE_CHARACTERS_MAX, NAME_CHARACTERS_MAX = 1000, 256

Shown = Mapping[str, Sequence[bytes]]
# Why a certificate (PEM) of these names is denied, "" when it is not.
Denied = Callable[[bytes, str], str]
Answer = Callable[[Any, Any], Awaitable[Any]]


LIMITS = ("requests_per_second_max", "calls_max", "bytes_in_flight_max")


def nobody_denied(_: bytes, __: str) -> str:
    """No certificate is denied."""
    return ""


class Arrival(Protocol):
    """A call that has come, before its message is read."""

    @property
    def method(self) -> str:
        """Its full path, as "/inference.GRPCInferenceService/ModelInfer"."""

    @property
    def peer(self) -> str:
        """The address, as "ipv4:10.0.0.7:40212"."""

    @property
    def metadata(self) -> Sequence[tuple[str, str | bytes]]:
        """As sent."""

    def shown(self) -> Shown:
        """What TLS tells of the connection (gRPC's auth_context)."""


class Recording(Protocol):
    """What the door needs of `runtime.recorder.Recorder`."""

    def append(
        self,
        entry: Callable[[], AnyRecord],
        then: Callable[[int | ApplianceError], None],
        *,
        request_id: str = "",
    ) -> None:
        """Have a record made durable; never waits. Raises Overloaded."""


class Door:
    """Lets calls in; `tokens` is set once, right after."""

    tokens: Tokens

    def __init__(
        self,
        config: AccessConfig,
        *,
        anyone: bool,
        clock: Clock,
        recorder: Recording,
        counted: Callable[[str], None],
        new_id: Callable[[], str],
        denied: Denied,
        singly: int,
    ) -> None:
        """`anyone`: callers need show nothing; `counted` gets the code of each refusal.

        Of one principal (or host) and code `singly` refusals a minute have records of their own.
        """
        self._config, self._anyone, self._clock = config, anyone, clock
        self._recorder, self._counted, self._new_id = recorder, counted, new_id
        self._denied = denied
        # Counted before the recorder's queue, which a flood would fill: that queue is for answers too.
        self._floods, self._flooding = Floods(clock, singly=singly), Lock()
        self._named = {principal.name: principal for principal in config.principals}
        self._known: dict[bytes, Principal] = {}
        self._allowances: dict[str, Allowance] = {}
        # Certificates come on the wire's thread and tokens on another.
        self._sharing = Lock()

    def admit(self, arrival: Arrival) -> Principal | Refusal:
        """Who calls, or what the caller is told instead; a call let in ends with `allowance.leave`."""
        if self._anyone and not self.tokens.any:
            return ANYONE
        name = ""
        try:
            principal = self._who(arrival)
            name = principal.name
            if principal.role is not None:
                check_role(name, principal.role, arrival.method, METHODS)
            if principal.allowance is not None:
                principal.allowance.enter(self._clock.monotonic_ns())
        except AccessError as error:
            return self.refused(error, name, arrival.peer, arrival.method)
        except Exception as error:  # noqa: BLE001 - the edge answers whatever happens
            return refusal(error)
        return principal

    def refused(self, error: ApplianceError, name: str, peer: str, method: str) -> Refusal:
        """Have it recorded that `name` ("" when nobody is known) was refused, and return what it is told."""
        request_id = self._new_id()
        self.note(
            Failure(
                request_id=request_id,
                model="",
                version=0,
                principal=name[:NAME_CHARACTERS_MAX],
                peer=peer,
                code=error.code,
                message=f"{method}: {error}"[:MESSAGE_CHARACTERS_MAX],
            )
        )
        return refusal(error, ((REQUEST_ID_KEY, request_id),))

    def note(self, record: Failure) -> None:
        """Count a refusal and have it recorded, by itself or among many; never waits. Any thread."""
        self._counted(record.code)
        with self._flooding:
            alone = self._floods.keep(record)
        if alone:
            self._record(record)

    def look(self, *, leaving: bool = False) -> None:
        """Take up changed tokens and record what refusals were counted; all of them when `leaving`."""
        self.tokens.look()
        with self._flooding:
            summaries = self._floods.due(all_of_them=leaving)
        for summary in summaries:
            self._record(summary)

    def guarded(self, path: str, answer: Answer) -> Answer:
        """`answer` for those only who may make this call for its model, or with its settings."""
        rule = METHODS.get(path)
        if rule is None or not (rule.model or rule.listed or rule.changes != frozenset(Role)):
            return answer

        async def guarded(request: Any, context: Any) -> Any:
            principal: Principal = context.principal
            try:
                named = str(getattr(request, rule.model)) if rule.model else ""
                if named:
                    principal.check(named)
                changing = rule.changes != frozenset(Role) and bool(request.settings)
                if changing and principal.role is not None and principal.role not in rule.changes:
                    raise Forbidden(
                        f"'{principal.name}' may read these settings, not change them",
                        remedy=f"{', '.join(sorted(rule.changes))} may",
                    )
            except AccessError as error:
                self.refused(error, principal.name, context.peer(), path)
                raise
            reply = await answer(request, context)
            if rule.listed and principal.models is not None:
                _keep(getattr(reply, rule.listed), principal.models)
            return reply

        return guarded

    def forget(self) -> None:
        """The denylist has changed: ask again about every certificate, those of open streams too.

        Who still stands stays known, for the next change to find the streams that are open now.
        """
        for pem, principal in list(self._known.items()):
            if self._denied(pem, principal.name):
                principal.fall()
                self._known.pop(pem, None)

    def by_token(self, token: Token) -> Principal | None:
        """The principal of a token; None when the configuration gives its name no role."""
        return self._principal(token.principal, token.role, token.models)

    def _record(self, record: Failure | Refusals) -> None:
        request_id = record.request_id if isinstance(record, Failure) else ""
        with suppress(Overloaded):  # the queue is full of answers' records; those come first
            self._recorder.append(lambda: record, _unheard, request_id=request_id)

    def _who(self, arrival: Arrival) -> Principal:
        """The token's principal, where one is sent, else the certificate's. Raises Unidentified."""
        sent = [value for key, value in arrival.metadata if key == KEY]
        if len(sent) > 1:
            # A proxy may look at another one than we do.
            raise Unidentified(
                f"the call has {len(sent)} authorizations", remedy="send the metadata once"
            )
        if sent:
            return self.tokens.find(str(sent[0]))
        shown = arrival.shown()
        certificates = shown.get(PEM)
        if not certificates:
            if self._anyone:
                return ANYONE
            raise Unidentified(
                "the call shows neither a token nor a certificate",
                remedy="send the metadata authorization: Bearer TOKEN, or connect with a certificate",
            )
        pem = certificates[0]
        known = self._known.get(pem)
        # Whom a denial has just felled is asked about anew.
        return known if known and known.standing else self._by_certificate(pem, shown)

    def _by_certificate(self, pem: bytes, shown: Shown) -> Principal:
        """The principal of a certificate that is new here."""
        name = certificate_name(shown)
        stated = stated_role(name, self._config.site)
        role = stated or (
            Role(self._config.certificate_role) if self._config.certificate_role else None
        )
        principal = self._principal(name, role, None)
        if principal is None:
            raise Unidentified(
                f"the certificate of '{name}' has no role here",
                remedy="name it in [[access.principals]], set [access] certificate_role, "
                "or show one with a URI spiffe://SITE/ROLE/NAME",
            )
        if len(self._known) >= KNOWN_MAX:
            # Those with open calls stay known, so that a denial ends their streams; it may come meanwhile.
            self._known = {p: known for p, known in self._known.copy().items() if _is_busy(known)}
        # Known first and asked about second: a denial meanwhile finds it in one place or the other.
        self._known[pem] = principal
        if why := self._denied(pem, name):
            self._known.pop(pem, None)
            raise Unidentified(
                f"the certificate of '{name}' is denied: {why}", remedy="ask for a new one"
            )
        return principal

    def _principal(
        self, name: str, role: Role | None, models: tuple[str, ...] | None
    ) -> Principal | None:
        """The principal called `name`, as the configuration has it if it names it."""
        own = self._named.get(name)
        if own is not None:
            role = None if own.role == "none" else Role(own.role)
            models = models if own.models is None else own.models
        if role is None:
            return None
        granted = None if models is None else frozenset(models)
        return Principal(name, role, granted, self._allowance(name, own))

    def _allowance(self, name: str, own: PrincipalConfig | None) -> Allowance:
        """What `name` may take, one for all that it shows."""
        with self._sharing:
            found = self._allowances.get(name)
            if found is None:
                if len(self._allowances) >= KNOWN_MAX:
                    # Those that hold nothing now lose nothing by beginning anew.
                    self._allowances = {
                        n: a for n, a in self._allowances.items() if a.calls or a.requests
                    }
                found = self._allowances[name] = Allowance(**self._limits(own))
            return found

    def _limits(self, own: PrincipalConfig | None) -> dict[str, int]:
        """The limits by name: its own where the configuration has them."""
        general = {name: getattr(self._config, name) for name in LIMITS}
        special = {name: getattr(own, name) for name in LIMITS} if own else {}
        return general | {name: value for name, value in special.items() if value is not None}


def open_door(
    config: Config,
    *,
    clock: Clock,
    recorder: Recording,
    counted: Callable[[str], None],
    new_id: Callable[[], str],
    denied: Denied = nobody_denied,
) -> Door:
    """The door of a box, as its configuration has it. Raises StateError for the tokens' list."""
    door = Door(
        config.access,
        anyone=is_open(config),
        clock=clock,
        recorder=recorder,
        counted=counted,
        new_id=new_id,
        denied=denied,
        singly=config.audit.refusals_singly,
    )
    door.tokens = Tokens(config.state.tokens, clock, door.by_token)
    return door


def _keep(listed: Any, models: frozenset[str]) -> None:
    """Leave in a reply's list what is about one of `models`."""
    kept = [entry for entry in listed if entry.name in models]
    del listed[:]
    listed.extend(kept)


def _is_busy(principal: Principal) -> bool:
    """Whether it has a call open."""
    return principal.allowance is not None and principal.allowance.calls > 0


def _unheard(result: int | ApplianceError) -> None:
    """Nobody waits for the record of a refusal."""
