"""Which roles may make which call: the one table. Pure.

Knows: every call of the inference port and of the control socket, by full name. Rules: what is not here is
refused; a test holds the table against what is served. Leaves to others: who has which role.

Roles are apart on purpose: who steers does not ask, and who audits does neither. An engineer asks any model
to try it, and steers nothing.
"""

from typing import NamedTuple

from appliance.access import Role
from appliance.errors import Forbidden

_ALL = frozenset(Role)
_ASK = frozenset((Role.CLIENT, Role.ENGINEER))
_STEER = frozenset((Role.OPERATOR,))
_TUNE = frozenset((Role.OPERATOR, Role.ENGINEER))
_EVIDENCE = frozenset((Role.CLIENT, Role.OPERATOR, Role.AUDITOR))
_LOOK = frozenset((Role.OPERATOR, Role.AUDITOR, Role.ENGINEER))


class Rule(NamedTuple):
    """Who may make a call, and what of it is about a model.

    `model` is the request's field that names one, `listed` the reply's that lists models by name; `changes`
    are the roles that may send a request which has settings in it.
    """

    roles: frozenset[Role]
    model: str = ""
    listed: str = ""
    changes: frozenset[Role] = _ALL


_INFERENCE = {
    "ServerLive": Rule(_ALL),
    "ServerReady": Rule(_ALL),
    "ServerMetadata": Rule(_ALL),
    "ModelReady": Rule(_ALL, model="name"),
    "ModelMetadata": Rule(_ALL, model="name"),
    "ModelConfig": Rule(_ALL, model="name"),
    "ModelStatistics": Rule(_ALL, model="name", listed="model_stats"),
    # The inferences check the model of each request themselves: a stream has many.
    "ModelInfer": Rule(_ASK),
    "ModelStreamInfer": Rule(_ASK),
    "RepositoryIndex": Rule(_ALL, listed="models"),
    "RepositoryModelLoad": Rule(_STEER, model="model_name"),
    "RepositoryModelUnload": Rule(_STEER, model="model_name"),
    "SystemSharedMemoryStatus": Rule(_ASK),
    "SystemSharedMemoryRegister": Rule(_ASK),
    "SystemSharedMemoryUnregister": Rule(_ASK),
    "CudaSharedMemoryStatus": Rule(_ASK),
    "CudaSharedMemoryRegister": Rule(_ASK),
    "CudaSharedMemoryUnregister": Rule(_ASK),
    "TraceSetting": Rule(_ALL, model="model_name", changes=_TUNE),
    "LogSettings": Rule(_ALL, changes=_TUNE),
}

METHODS: dict[str, Rule] = {
    **{f"/inference.GRPCInferenceService/{name}": rule for name, rule in _INFERENCE.items()},
    "/grpc.health.v1.Health/Check": Rule(_ALL),
    "/grpc.health.v1.Health/List": Rule(_ALL),
    "/grpc.health.v1.Health/Watch": Rule(_ALL),
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": Rule(_ALL),
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": Rule(_ALL),
    # A client gets receipts of its own requests only, and tells what was true of its own only.
    "/holdfast.EvidenceService/Receipt": Rule(_EVIDENCE),
    "/holdfast.EvidenceService/Checkpoint": Rule(_ALL),
    "/holdfast.EvidenceService/Feedback": Rule(_ALL),
    "/holdfast.WitnessService/AddCheckpoint": Rule(_ALL),
}

CONTROL_METHODS: dict[str, Rule] = {
    "/holdfast.control.v1.Control/List": Rule(_LOOK),
    "/holdfast.control.v1.Control/Status": Rule(_LOOK),
    "/holdfast.control.v1.Control/Watch": Rule(_LOOK),
    "/holdfast.control.v1.Control/Decide": Rule(_STEER),
    "/holdfast.control.v1.Control/Erase": Rule(_STEER),
    "/holdfast.control.v1.Control/Feedback": Rule(_STEER),
    "/holdfast.control.v1.Control/Sign": Rule(_LOOK),
}


def check_role(name: str, role: Role, method: str, table: dict[str, Rule]) -> Rule:
    """The rule of `method` in `table`; raises Forbidden unless it names `role`, which `name` has."""
    rule = table.get(method)
    if rule is None or role not in rule.roles:
        may = ", ".join(sorted(rule.roles)) if rule else "nobody"
        raise Forbidden(
            f"'{name}' has the role {role}, which may not call {method}",
            remedy=f"{may} may; ask who runs this box for a token or certificate of that role",
        )
    return rule
