"""The inference protocol's calls that are not inferences, together.

Knows: which family answers which call. Rules: a call by the name that the protocol gives it, each a
coroutine of request and context. Leaves to others: answering (one room a family), the wire
(`runtime.transport`), inferences (`runtime.services.infer`).
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

from tritonclient.grpc import service_pb2 as oip

from appliance import journal
from appliance.config import Config
from appliance.store import Store
from runtime.controlplane import ControlPlane
from runtime.dataplane import DataPlane
from runtime.metrics import Metrics
from runtime.regions import Regions
from runtime.services.counting import Counting
from runtime.services.description import Description
from runtime.services.presence import Presence
from runtime.services.repository import Repository
from runtime.services.settings import Settings
from runtime.services.sharing import Sharing
from runtime.swap import ServedTable
from runtime.traces import Traces

SERVICE = oip.DESCRIPTOR.services_by_name["GRPCInferenceService"]
FAMILIES = (Presence, Description, Counting, Repository, Sharing, Settings)
Answer: TypeAlias = Callable[[Any, Any], Awaitable[Any]]


class Call(NamedTuple):
    """A unary call: the class of its request, and the coroutine (request, context) that answers it."""

    request: Any
    answer: Answer


def calls(
    *,
    config: Config,
    store: Store,
    table: ServedTable,
    dataplane: DataPlane,
    controlplane: ControlPlane,
    metrics: Metrics,
    regions: Regions,
    traces: Traces,
    inferring: Iterable[str] = (),
) -> dict[str, Call]:
    """Every call but the inferences, by full path such as "/inference.GRPCInferenceService/ServerLive".

    `inferring` are the extensions that the inference calls serve, for ServerMetadata. Answers raise
    ApplianceError; each is noted in the journal when its details are asked for.
    """
    families = (
        Presence(table=table, dataplane=dataplane),
        Description(config=config, table=table, inferring=inferring),
        Counting(table=table, metrics=metrics),
        Repository(config=config, store=store, table=table, controlplane=controlplane),
        Sharing(regions=regions),
        Settings(config=config, table=table, traces=traces),
    )
    return {
        f"/{SERVICE.full_name}/{name}": Call(_request(name), _noted(name, getattr(family, name)))
        for family in families
        for name in names(type(family))
    }


def names(family: type) -> list[str]:
    """The calls that a family answers, in the order in which it has them."""
    return [name for name in vars(family) if name in SERVICE.methods_by_name]


def _request(name: str) -> Any:
    return getattr(oip, SERVICE.methods_by_name[name].input_type.name)


def _noted(name: str, answer: Answer) -> Answer:
    async def noted(request: Any, context: Any) -> Any:
        journal.detail("call.made", call=name, peer=context.peer())
        return await answer(request, context)

    return noted
