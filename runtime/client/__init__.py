"""Typed clients of both services (a door).

Knows: where each client is. Rules: importing the door imports neither gRPC nor numpy; a name brings its
room when it is first used, so that a command which only shows a status loads no arrays. Leaves to
others: the control service (`control`), inference (`inference`, `awaited`), evidence (`evidence`).
"""

from importlib import import_module
from typing import TYPE_CHECKING

from runtime.protocol import CODE_KEY, REMEDY_KEY

if TYPE_CHECKING:
    from runtime.client.awaited import AsyncInferenceClient
    from runtime.client.connection import Tls
    from runtime.client.control import ControlClient
    from runtime.client.evidence import EvidenceClient
    from runtime.client.inference import InferenceClient
    from runtime.client.messages import ModelDescription, Reply, Sequenced, TensorDescription
    from runtime.client.retry import Retry
    from runtime.client.tensors import BFloat16

__all__ = [
    "CODE_KEY",
    "REMEDY_KEY",
    "AsyncInferenceClient",
    "BFloat16",
    "ControlClient",
    "EvidenceClient",
    "InferenceClient",
    "ModelDescription",
    "Reply",
    "Retry",
    "Sequenced",
    "TensorDescription",
    "Tls",
]

_ROOMS = {
    "AsyncInferenceClient": "awaited",
    "BFloat16": "tensors",
    "ControlClient": "control",
    "EvidenceClient": "evidence",
    "InferenceClient": "inference",
    "ModelDescription": "messages",
    "Reply": "messages",
    "Retry": "retry",
    "Sequenced": "messages",
    "TensorDescription": "messages",
    "Tls": "connection",
}


def __getattr__(name: str) -> object:
    """The client called `name`, from its room (PEP 562)."""
    if name not in _ROOMS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
