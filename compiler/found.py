"""What the acts on a model end with, as data that travels back from a child.

Knows: what sealing and compiling find. Rules: plain data; files are left in the directory that the act was
given, and only told of here. Leaves to others: believing it (`pack`, `staged`).
"""

import msgspec

from appliance.manifest import Calibration, Digest
from appliance.proof import Proof, Reached, Trial
from appliance.store import EngineEntry
from appliance.tensors import Interface

SHEET_FILE = "sheet.png"  # pictures of the golden rows, left for the report


class Found(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an act ended with."""


class Sealed(Found, frozen=True, kw_only=True):
    """What sealing found: `engine`, the model's interface, digests, what the reference reached, notes.

    The bundle's files are in the directory that the act was given, under the manifest's names.
    """

    engine: Interface
    calibration: Calibration | None
    source_sha256: Digest
    source_files: dict[str, Digest] = {}
    sample_sha256: Digest
    reached: tuple[Reached, ...]
    notes: tuple[str, ...]


class Compiled(Found, frozen=True, kw_only=True):
    """What compiling found: the engine kept, the one to fall back on, the proof, what was tried.

    The engines' files, and SHEET_FILE if `sheet`, are in the directory that the act was given.
    """

    entry: EngineEntry
    fallback: EngineEntry | None
    proof: Proof
    trials: tuple[Trial, ...]
    sheet: bool = False
