"""Settings of checkpoints that leave the box, and of witnessing other boxes.

Leaves to others: acting on them (`runtime.checkpoints`, `runtime.witnessing`).
"""

from typing import Annotated

import msgspec

from appliance.config.section import Seconds, Section

FilePath = Annotated[str, msgspec.Meta(min_length=1)]


class WitnessPeer(Section, frozen=True, kw_only=True):
    """A witness that cosigns this box's checkpoints: where it answers, and its public key as a PEM file.

    `root`, `certificate` and `private_key` are PEM files for TLS: who signed the witness's certificate, and
    this box's own; without `root` the connection is plain text, which the witness allows on loopback only.
    """

    address: FilePath
    key: FilePath
    root: str = ""
    certificate: str = ""
    private_key: str = ""


class CheckpointsConfig(Section, frozen=True, kw_only=True):
    """Where each new checkpoint goes; at most one every `seconds`, and the last one when the runtime stops."""

    directory: str = ""
    journal: bool = True
    syslog: str = ""
    seconds: Seconds = 60.0
    witness_seconds_max: Seconds = 5.0
    witnesses: tuple[WitnessPeer, ...] = ()


class WitnessedLog(Section, frozen=True, kw_only=True):
    """Another box's log: its first public key as a PEM file, and keys that came after that one."""

    key: FilePath
    later_keys: tuple[FilePath, ...] = ()


class WitnessConfig(Section, frozen=True, kw_only=True):
    """Whose checkpoints this box cosigns; none: it is no witness."""

    logs: tuple[WitnessedLog, ...] = ()
