"""What a bundle says: the signed table of contents that travels with a model.

Knows: every field that pack writes and build, runtime and console read. Rules: its JSON is canonical,
so equal content has equal bytes; nothing in it depends on when or where it was packed. Leaves to others:
the file layout (`appliance.bundle`) and the signature (`appliance.signing`).
"""

import hashlib
from enum import StrEnum
from typing import Annotated, Literal

import msgspec

from appliance.recipe import FP32_MAX, Recipe
from appliance.tables import canonical_json
from appliance.tensors import Interface, TensorName
from appliance.version import ModelName

Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}\\Z")]
FRACTION = msgspec.Meta(ge=0.0, le=1.0)

MODEL_FILE = "model.onnx"
GOLDEN_FILE = "golden.npz"
HELD_OUT_FILE = "held_out.npz"
PROFILE_FILE = "profile.json"


class Precision(StrEnum):
    """Arithmetic of an engine, as asked for by the spec."""

    FP32 = "fp32"


class FileEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file in a bundle or a version: relative name, size in bytes, SHA-256."""

    name: str
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    sha256: Digest


class Metric(StrEnum):
    """Task metrics of acceptance thresholds.

    accuracy: share of held-out rows whose argmax of `output` equals the label.
    """

    ACCURACY = "accuracy"


class Acceptance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A threshold an engine must reach on the held-out rows: `metric` of engine `output`."""

    metric: Metric
    output: TensorName
    minimum: Annotated[float, FRACTION]


class Tolerance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far an engine may be from the reference: |x - r| <= absolute + relative * |r|."""

    absolute: Annotated[float, msgspec.Meta(ge=0.0, le=FP32_MAX)] = 1e-4
    relative: Annotated[float, msgspec.Meta(ge=0.0, le=FP32_MAX)] = 1e-3


class Provenance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the model comes from, as its engineer states it."""

    data_sha256: Digest
    training_code: str
    frameworks: dict[str, str]


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a bundle says. `served` is what clients see, `engine` what the compiled model takes."""

    format: Literal[1] = 1
    model: ModelName
    release_notes: Annotated[str, msgspec.Meta(min_length=1, max_length=10_000)]
    served: Interface
    engine: Interface
    recipe: Recipe
    precision: Precision
    tolerance: Tolerance
    acceptance: tuple[Acceptance, ...]
    provenance: Provenance
    files: tuple[FileEntry, ...]


def recipe_sha256(manifest: Manifest) -> str:
    """SHA-256 of the recipe's canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical_json(manifest.recipe)).hexdigest()
