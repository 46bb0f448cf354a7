"""What can be wrong with a model on its way from a file to a proven engine."""

from appliance.errors.root import ApplianceError


class BundleError(ApplianceError):
    """The file is not a bundle, is cut short, or has a format this release does not read."""

    code = "bundle.format"


class BundleUnsigned(BundleError):
    """The bundle carries no signature."""

    code = "bundle.unsigned"


class BundleUntrusted(BundleError):
    """The bundle is signed by a key that this box does not trust."""

    code = "bundle.untrusted"


class BundleRevoked(BundleUntrusted):
    """The bundle is signed by a key that was revoked here."""

    code = "bundle.revoked"


class BundleExpired(BundleUntrusted):
    """The bundle is signed outside the time in which its signer may sign."""

    code = "bundle.expired"


class BundleOlder(BundleError):
    """The bundle is of an older edition than one that was installed here."""

    code = "bundle.older"


class BundleIncompatible(BundleError):
    """The bundle is made for another kind of box, or for a newer release of this software."""

    code = "bundle.incompatible"


class BundleSignature(BundleError):
    """The signature does not fit the manifest."""

    code = "bundle.signature"


class BundleContent(BundleError):
    """A file does not fit its digest in the signed manifest, or the parts contradict each other."""

    code = "bundle.content"


class BundleStale(BundleError):
    """The bundle contradicts the model's versions before it: interface, labels or data."""

    code = "bundle.stale"


class SpecError(ApplianceError):
    """The model spec is wrong or does not fit the model."""

    code = "spec.invalid"


class RecipeError(ApplianceError):
    """The recipe's steps do not fit each other or the model's interface."""

    code = "recipe.invalid"


class SourceError(ApplianceError):
    """The source model cannot be used."""

    code = "source.unusable"


class SourceFormat(SourceError):
    """The file is not a valid ONNX model."""

    code = "source.format"


class SourceLimit(SourceError):
    """The model exceeds a limit (bytes, nodes, tensors, subgraph depth)."""

    code = "source.limit"


class SourceUnsupported(SourceError):
    """The model uses something this release does not serve."""

    code = "source.unsupported"


class EngineError(ApplianceError):
    """An engine failed while running."""

    code = "engine.failed"


class EngineBuild(EngineError):
    """No engine could be built from the model."""

    code = "engine.build"


class EngineLoad(EngineError):
    """An engine file could not be loaded on this box."""

    code = "engine.load"


class GpuError(EngineError):
    """The GPU's driver or a library on it refused or failed."""

    code = "gpu.failed"


class GpuUnusable(GpuError):
    """There is no GPU that can be used, or not with what is installed."""

    code = "gpu.unusable"


class GpuMemory(GpuError):
    """The GPU has no room for what was asked."""

    code = "gpu.memory"


class GpuLost(GpuError):
    """The GPU's context is broken for good; its owner is started again."""

    code = "gpu.lost"


class BuildError(ApplianceError):
    """An act on a model was cut short or not begun."""

    code = "build.failed"


class BuildCrashed(BuildError):
    """The process that worked on the model died; the message has its last words."""

    code = "build.crashed"


class BuildLimit(BuildError):
    """Working on the model took more memory or time than the configuration allows."""

    code = "build.limit"


class BuildBusy(BuildError):
    """Another build held this box for too long."""

    code = "build.busy"


class BuildMarked(BuildError):
    """This bundle failed here before and nothing has changed since."""

    code = "build.marked"


class ProofError(ApplianceError):
    """An engine was not proven."""

    code = "proof.failed"


class GoldenMissed(ProofError):
    """An engine's outputs differ from the golden vectors by more than the tolerance."""

    code = "proof.golden"


class ThresholdMissed(ProofError):
    """An engine does not reach an acceptance threshold of the spec."""

    code = "proof.threshold"


class LimitMissed(ProofError):
    """An engine is slower or takes more memory than the spec allows."""

    code = "proof.limit"
