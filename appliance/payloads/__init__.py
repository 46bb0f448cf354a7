"""Payloads: the inputs of requests, kept beside the audit log for as long as they may be.

Knows: where the words of this room are. Rules: a record holds a payload's salted digest alone, so a payload
may be erased and the log still verifies. Leaves to others: which are kept (`runtime.payloads`).
"""

from appliance.payloads.payload import SALT_BYTES, Payload, Requested, Why, salted_digest
from appliance.payloads.reader import ALWAYS_NS, PayloadReader
from appliance.payloads.writer import PayloadWriter, Removed

__all__ = [
    "ALWAYS_NS",
    "SALT_BYTES",
    "Payload",
    "PayloadReader",
    "PayloadWriter",
    "Removed",
    "Requested",
    "Why",
    "salted_digest",
]
