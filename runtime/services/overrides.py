"""What a load request may say beside the model's name.

Knows: the parameters of RepositoryModelLoad (Triton's repository extension) and ModelConfig as proto3 JSON.
Rules: a configuration may choose the version and must otherwise say what holds anyway: a version is what was
signed and proven, and no request can change it; files are refused before they are looked at. Leaves to
others: what holds (`runtime.services.description`), acting on it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from google.protobuf.message import Message
from tritonclient.grpc import model_config_pb2 as oip_config

from appliance.errors import RequestError, Unsupported

CONFIG_CHARACTERS_MAX = 1 << 20
_REMEDY = "leave the configuration out, or build a version that has it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """A load's own ModelConfig (None without one), its JSON's keys, and the version that it names."""

    model: str
    config: Any = None
    keys: frozenset[str] = frozenset()
    version: int | None = None

    def check_same(self, holding: Any) -> None:
        """Raise RequestError unless every field that the override has is as in `holding`.

        A policy that names one version is none of these: it is acted on.
        """
        policy = self.config.version_policy
        if policy.HasField("specific") and self.version is None:
            several = set(policy.specific.versions)
            if not several or several != set(holding.version_policy.specific.versions):
                raise _refused(self.model, "version_policy must name one version")
        for field in self.config.DESCRIPTOR.fields:
            named = field.name in self.keys or field.json_name in self.keys
            if field.name != "version_policy" and named:
                where = _difference(self.config, holding, field)
                if where:
                    raise _refused(self.model, f"{where} is not what this version was built with")


def override_from(model: str, parameters: Mapping[str, Any]) -> Override:
    """Read the parameters of a RepositoryModelLoad.

    Raises Unsupported on files, RequestError on what is no parameter, no ModelConfig, or asks for more than
    the latest version.
    """
    override = Override(model=model)
    for name, parameter in parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        if name.startswith("file:"):
            _check_kind(name, kind, "bytes_param")
            raise Unsupported(
                f"failed to load '{model}', override files are not taken",
                remedy="a version comes only from a signed bundle: holdfast-compile build",
            )
        if name != "config":
            raise RequestError(f"unrecognized load parameter '{name}'.", remedy="leave it out")
        _check_kind(name, kind, "string_param")
        override = _config_from(model, parameter.string_param)
    return override


def _check_kind(name: str, kind: str | None, wanted: str) -> None:
    if kind != wanted:
        raise RequestError(
            f"invalid value type for load parameter '{name}', expected {wanted}.",
            remedy=f"send a {wanted}",
        )


def _config_from(model: str, text: str) -> Override:
    if len(text) > CONFIG_CHARACTERS_MAX:
        raise _refused(model, f"it has more than {CONFIG_CHARACTERS_MAX} characters")
    try:
        config = json_format.Parse(text, oip_config.ModelConfig())
        parsed = json.loads(text)
    except (json_format.ParseError, ValueError, TypeError, RecursionError) as error:
        raise _refused(model, str(error)) from error
    if not isinstance(parsed, dict):  # an empty list passes for a message without fields
        raise _refused(model, "it is no JSON object")
    keys = frozenset(parsed)
    return Override(model=model, config=config, keys=keys, version=_version_of(model, config))


def _version_of(model: str, config: Any) -> int | None:
    """The one version that the policy names; None when it names none, or several (see `check_same`)."""
    policy = config.version_policy
    kind = policy.WhichOneof("policy_choice")
    if kind == "specific" and len(policy.specific.versions) == 1:
        return int(policy.specific.versions[0])
    if kind == "all" or (kind == "latest" and policy.latest.num_versions > 1):
        raise _refused(model, "only one version of a model answers")
    return None


def _difference(sent: Any, holding: Any, field: Any) -> str:
    """The path of the first thing below `field` that `sent` has and `holding` has not, "" when none."""
    mine, theirs = getattr(sent, field.name), getattr(holding, field.name)
    if not isinstance(mine, Message):
        return "" if mine == theirs else str(field.name)
    for below, _ in mine.ListFields():
        path = _difference(mine, theirs, below)
        if path:
            return f"{field.name}.{path}"
    return ""


def _refused(model: str, why: str) -> RequestError:
    return RequestError(f"failed to load '{model}', invalid config override: {why}", remedy=_REMEDY)
