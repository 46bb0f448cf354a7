"""How a version was proven: what `build` measured of its engine and of those it was chosen from.

Knows: the figures that version.json keeps. Rules: plain data; a figure that could not be had is None.
Leaves to others: measuring (`compiler`), showing (`compiler.report`, the console).
"""

from typing import Annotated, TypeAlias

import msgspec

from appliance.manifest import Acceptance, Disturbance, Precision

KEPT = "kept"  # the verdict of the engine that a version has


Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0)]
Rows: TypeAlias = Annotated[int, msgspec.Meta(ge=1)]
AbsoluteError: TypeAlias = Annotated[float, msgspec.Meta(ge=0.0)]
Milliseconds: TypeAlias = Annotated[float, msgspec.Meta(ge=0.0)]


class Figures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of a proof."""


class OutputErrors(Figures, frozen=True, kw_only=True):
    """A served output against the reference, over all golden rows: the worst of all numbers of rows.

    Of floating-point outputs: `largest` and `p99` are absolute errors; `cosine` is between both,
    flattened, in FP64 (1: same direction; None when either is zero or not finite); `argmax_agreement` is
    the share of rows with the same argmax on the last axis, None for an output without classes. Of all
    others: `agreement` is the share of equal values. `gated` outputs had to be within the tolerance (or
    equal); the rest hangs on near ties, which may fall either way, and is reported.
    """

    output: str
    gated: bool
    largest: AbsoluteError | None = None
    p99: AbsoluteError | None = None
    cosine: float | None = None
    argmax_agreement: float | None = None
    agreement: float | None = None


class BucketErrors(Figures, frozen=True, kw_only=True):
    """The largest absolute error of the gated outputs with `rows` rows in a call.

    `lengths` tells those of the inputs where a model with open axes was tried at others than the golden
    rows' own, else it is "".
    """

    rows: Rows
    largest: AbsoluteError
    lengths: str = ""


class Reached(Figures, frozen=True, kw_only=True):
    """A threshold and the value reached: overall, or by the `rows` of segment value `segment`."""

    threshold: Acceptance
    value: float
    rows: Rows
    segment: str | None = None


class Disturbed(Figures, frozen=True, kw_only=True):
    """The value of a threshold's metric on `rows` disturbed rows, beside the one on the same rows as they are.

    `value` is None where the disturbance changes no input of the model or such rows are refused.
    """

    disturbance: Disturbance
    threshold: Acceptance
    value: float | None
    undisturbed: float
    rows: Rows


class Proof(Figures, frozen=True, kw_only=True):
    """How the kept engine was proven.

    `error_max` is the largest absolute error of any gated output at any number of rows, `error_p99` the
    largest 99th percentile. `memory_bytes` is the resident memory that loading and warming added, None
    where the system does not tell.
    """

    golden_rows: Rows
    error_max: AbsoluteError
    error_p99: AbsoluteError
    outputs: tuple[OutputErrors, ...]
    buckets: tuple[BucketErrors, ...]
    reached: tuple[Reached, ...]
    disturbed: tuple[Disturbed, ...]
    memory_bytes: Count | None


class Timing(Figures, frozen=True, kw_only=True):
    """Milliseconds of answering a request of `rows` rows: median and 99th percentile.

    Recipe, engine and after-steps as they serve, measured by `build` in its own process; the network, the
    queue and the audit record come on top.
    """

    rows: Rows
    median_ms: Milliseconds
    p99_ms: Milliseconds


class InspectedLayer(Figures, frozen=True, kw_only=True):
    """A layer of an engine that convolves or multiplies matrices: what it computes in, by which tactic.

    `nodes` are the ONNX nodes of that kind that it was made of. Unless `shown`, the engine does not tell its
    arithmetic, and `precision` is what the graph's own types say.
    """

    name: str
    operator: str
    precision: str
    shown: bool
    tactic: str
    nodes: tuple[str, ...]


class Inspected(Figures, frozen=True, kw_only=True):
    """What an engine for a GPU says of itself: all its layers counted, those that matter told.

    `precisions` counts the latter by what they compute in, `untold` of them do not show it.
    `activation_bytes` is the device memory that one lane needs beside the plan's own. `notes` are what was
    done otherwise than asked.
    """

    library: str
    layers: Count
    precisions: dict[str, Count]
    untold: Count
    plan_bytes: Count
    activation_bytes: Count
    heavy: tuple[InspectedLayer, ...]
    notes: tuple[str, ...] = ()


class Trial(Figures, frozen=True, kw_only=True):
    """One engine tried at a build: the decision table's line.

    `metric` is the value of the first threshold. An engine that failed has no figures beyond those it
    reached before; `verdict` says why. `inspected` is what an engine for a GPU says of itself.
    """

    engine: str
    precision: Precision
    timings: tuple[Timing, ...] = ()
    error_max: AbsoluteError | None = None
    error_p99: AbsoluteError | None = None
    metric: float | None = None
    bytes: Count | None = None
    inspected: Inspected | None = None
    verdict: str

    @property
    def kept(self) -> bool:
        """True of the engine that the version has."""
        return self.verdict == KEPT
