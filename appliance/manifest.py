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
from appliance.states import State, stateless
from appliance.tables import canonical_json
from appliance.tensors import Interface, TensorName
from appliance.version import ModelName

Digest = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}\\Z")]
FRACTION = msgspec.Meta(ge=0.0, le=1.0)

MODEL_FILE = "model.onnx"
GOLDEN_FILE = "golden.npz"
HELD_OUT_FILE = "held_out.npz"
PROFILE_FILE = "profile.json"
CALIBRATION_FILE = "calibration.json"
BOM_FILE = "bom.cdx.json"
SOURCE_SIGNATURE_FILE = "source.sig"
Edition = Annotated[int, msgspec.Meta(ge=1, le=2**53 - 1)]
Release = Annotated[str, msgspec.Meta(pattern=r"^[0-9]{1,6}(\.[0-9]{1,6}){0,3}\Z")]
Compatible = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,127}\Z")]


class Precision(StrEnum):
    """Arithmetic of an engine. `auto`, in a spec and its manifest only, asks the box to choose."""

    FP32 = "fp32"
    FP16 = "fp16"
    BF16 = "bf16"
    INT8 = "int8"
    AUTO = "auto"


class FileEntry(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file in a bundle or a version: relative name, size in bytes, SHA-256."""

    name: str
    bytes: Annotated[int, msgspec.Meta(ge=0)]
    sha256: Digest


class Metric(StrEnum):
    """Task metrics of acceptance thresholds, on the held-out rows.

    accuracy: share of rows whose argmax of `output` equals the label.
    macro_f1: mean over the classes that occur as label of 2 TP / (2 TP + FP + FN), with argmax as above.
    mean_absolute_error: mean of |output - label|.
    root_mean_squared_error: square root of the mean of (output - label)^2.
    """

    ACCURACY = "accuracy"
    MACRO_F1 = "macro_f1"
    MEAN_ABSOLUTE_ERROR = "mean_absolute_error"
    ROOT_MEAN_SQUARED_ERROR = "root_mean_squared_error"


class Acceptance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A threshold an engine must reach on the held-out rows: `metric` of engine `output`.

    Shares have a `minimum`, errors a `maximum`. With `segment`, the name of a column of the held-out
    rows (site, device, group), each value of the column must reach it by its own rows.
    """

    metric: Metric
    output: TensorName
    minimum: Annotated[float, FRACTION] | None = None
    maximum: Annotated[float, msgspec.Meta(ge=0.0)] | None = None
    segment: str | None = None

    def holds(self, value: float) -> bool:
        """True when `value` reaches the threshold; NaN never does."""
        return (self.minimum is None or value >= self.minimum) and (
            self.maximum is None or value <= self.maximum
        )


class Tolerance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How far an engine may be from the reference: |x - r| <= absolute + relative |r| + of_range R.

    R is the reference output's largest value less its smallest, over all golden rows.
    """

    absolute: Annotated[float, msgspec.Meta(ge=0.0, le=FP32_MAX)] = 1e-4
    relative: Annotated[float, msgspec.Meta(ge=0.0, le=FP32_MAX)] = 1e-3
    of_range: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)] = 0.0


class Tolerances(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The tolerance of each precision. The defaults follow the numbers' own resolution."""

    fp32: Tolerance = Tolerance()
    fp16: Tolerance = Tolerance(absolute=1e-3, relative=1e-2, of_range=0.01)
    bf16: Tolerance = Tolerance(absolute=1e-3, relative=2e-2, of_range=0.04)
    int8: Tolerance = Tolerance(absolute=1e-3, relative=5e-2, of_range=0.10)

    def of(self, precision: Precision) -> Tolerance:
        """The tolerance of an engine of `precision`, which is not auto."""
        found: Tolerance = getattr(self, precision)
        return found


class CalibrationMethod(StrEnum):
    """How an activation's range is found from the sample: its extremes, least entropy, a percentile."""

    MINMAX = "minmax"
    ENTROPY = "entropy"
    PERCENTILE = "percentile"


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the ranges in CALIBRATION_FILE come from.

    `data_sha256` is of the rows as the engine took them, prepared by the recipe.
    """

    method: CalibrationMethod
    rows: Annotated[int, msgspec.Meta(ge=1)]
    data_sha256: Digest


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an engine may cost on the box, None for no limit.

    `latency_ms_max`: median milliseconds of answering one row. `memory_bytes_max`: resident memory that
    loading and warming the version adds.
    """

    latency_ms_max: Annotated[float, msgspec.Meta(gt=0.0)] | None = None
    memory_bytes_max: Annotated[int, msgspec.Meta(ge=1)] | None = None


class DisturbanceKind(StrEnum):
    """What is done to the held-out rows in a robustness pass, by the formulas in `compiler.proving.disturbances`."""

    NOISE = "noise"
    BLUR = "blur"
    BRIGHTNESS = "brightness"
    MISSING = "missing"
    ADVERSARIAL = "adversarial"


class Disturbance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One robustness pass: what is done, how strongly, and how far every metric may fall.

    Without `drop_max` the outcome is reported and nothing depends on it; with it, a metric that is
    worse than undisturbed by more than this fails the proof. What `level` means:

    - noise: x + level s n, with s the standard deviation of the input (of a table's column), n normal
    - blur: a Gaussian of sigma = level pixels
    - brightness: lighter and darker by level of the range
    - missing: a share of level of a table's values is not known
    - adversarial: x + level s r, r = +1 or -1 at random, the worst of a few tries on a few rows
    """

    kind: DisturbanceKind
    level: Annotated[float, msgspec.Meta(gt=0.0)]
    drop_max: Annotated[float, msgspec.Meta(ge=0.0)] | None = None


class Provenance(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the model comes from, as its engineer states it.

    `retrained`: trained anew on newer data than the version before.
    """

    data_sha256: Digest
    training_code: str
    frameworks: dict[str, str]
    retrained: bool = False


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a bundle says. `served` is what clients see, `engine` what the compiled model takes.

    `states` are those of the engine's tensors that it keeps between the requests of a sequence; golden
    vectors are of a sequence's start.

    `source_sha256` is of the ONNX file as it was received, `sample_sha256` of the sample's arrays.
    `interface_changes` says that interface and labels may differ from the versions' before it.
    With `fallback`, a portable fp32 engine is proven and kept beside the fastest one and serves while
    that one does not fit the box.
    `edition` counts what was packed of this model, so that a box can tell older from newer;
    `minimum_release` is the oldest of this software that may build it; `compatible` names the kind of box
    that it is for (task, interface, hardware); `source_signer` is the key id of who signed the source,
    whose signature is then in SOURCE_SIGNATURE_FILE. None of the four need be said. `source_files` are the
    SHA-256 of a source that is several files, the ONNX file's own under "".
    """

    format: Literal[1] = 1
    model: ModelName
    release_notes: Annotated[str, msgspec.Meta(min_length=1, max_length=10_000)]
    served: Interface
    engine: Interface
    states: tuple[State, ...] = ()
    recipe: Recipe
    precision: Precision
    tolerances: Tolerances
    acceptance: tuple[Acceptance, ...]
    limits: Limits
    disturbances: tuple[Disturbance, ...]
    calibration: Calibration | None
    fallback: bool
    interface_changes: bool = False
    edition: Edition | None = None
    minimum_release: Release | None = None
    compatible: Compatible | None = None
    provenance: Provenance
    source_signer: Digest | None = None
    source_sha256: Digest
    source_files: dict[str, Digest] = {}
    sample_sha256: Digest
    files: tuple[FileEntry, ...]

    @property
    def stateless(self) -> Interface:
        """The engine's interface without its states; raises SpecError (see `appliance.states`)."""
        return stateless(self.engine, self.states)


def recipe_sha256(manifest: Manifest) -> str:
    """SHA-256 of the recipe's canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical_json(manifest.recipe)).hexdigest()
