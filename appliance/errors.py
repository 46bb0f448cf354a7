"""Every error an operator, engineer or client can meet, as one tree.

Knows: the stable code of each kind of failure. Rules: a class has one `code`, a raise has a message
(what happened) and a `remedy` (what to do next); tests assert on codes. Leaves to others: gRPC status
codes (`runtime.interceptors`) and exit codes (`appliance.exits`).

    ApplianceError
    ├── ConfigError            config.invalid        the TOML file or an option
    ├── StateError             state.unusable        the state directory
    ├── KeyFileError           key.unusable          a signing or trust key file
    ├── BundleError            bundle.format         the file is no bundle, or is cut short
    │   ├── BundleUnsigned     bundle.unsigned
    │   ├── BundleUntrusted    bundle.untrusted      signed by a key nobody here trusts
    │   ├── BundleSignature    bundle.signature      the signature does not fit the content
    │   ├── BundleContent      bundle.content        a file does not fit its digest, or the parts each other
    │   └── BundleStale        bundle.stale          it contradicts the versions before it
    ├── SpecError              spec.invalid          the model spec
    ├── RecipeError            recipe.invalid        steps that do not fit each other or the model
    ├── SourceError            source.unusable       the ONNX file
    │   ├── SourceFormat       source.format
    │   ├── SourceLimit        source.limit
    │   └── SourceUnsupported  source.unsupported
    ├── EngineError            engine.failed         an engine could not run
    │   ├── EngineBuild        engine.build
    │   └── EngineLoad         engine.load
    ├── BuildError             build.failed          an act on a model was cut short, or not begun
    │   ├── BuildCrashed       build.crashed         the process that did it died
    │   ├── BuildLimit         build.limit           it took more memory or time than [build] allows
    │   ├── BuildBusy          build.busy            another build holds this box
    │   └── BuildMarked        build.marked          this bundle failed here before
    ├── ProofError             proof.failed
    │   ├── GoldenMissed       proof.golden
    │   ├── ThresholdMissed    proof.threshold
    │   └── LimitMissed        proof.limit          too slow or too large
    ├── StoreError             store.damaged
    │   ├── UnknownModel       model.unknown
    │   └── UnknownVersion     version.unknown
    ├── DecisionError          decision.refused      a decision the deployment rules forbid
    ├── RequestError           request.invalid       a request the interface forbids
    │   ├── VersionNotServed   version.unserved      the version exists but is not loaded
    │   ├── RequestLimit       request.limit         too many bytes or rows
    │   ├── Unsupported        request.unsupported   asks for something that is not served
    │   ├── UnknownRegion      region.unknown        no shared memory of this name is registered
    │   └── RegionTaken        region.taken          shared memory of this name is registered
    ├── NotGranted             server.not_granted    the configuration does not let clients do this
    ├── LoadFailed             model.load            a client's load or unload came to nothing
    ├── RegionUnusable         region.unusable       shared memory that cannot be opened, read or written
    ├── Overloaded             server.overloaded     a queue is full
    ├── DeadlinePassed         request.deadline      no answer came in the time that the caller allows
    ├── Draining               server.draining       the server is stopping
    ├── ListenError            server.listen         an address that cannot be bound
    ├── Unreachable            server.unreachable    no runtime answers on the control socket
    ├── AuditError             audit.failed
    │   ├── AuditUnwritable    audit.unwritable      the log cannot take a record
    │   ├── AuditBroken        audit.broken          the log does not verify
    │   └── UnknownRecord      audit.unknown
    └── DriftError             drift.failed          a check that cannot be made
"""

from typing import ClassVar


class ApplianceError(Exception):
    """The root: str(error) is the message; `remedy` says what to do next; `code` is stable."""

    code: ClassVar[str] = "appliance.failed"

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


class ConfigError(ApplianceError):
    """The configuration file or a command option is wrong."""

    code = "config.invalid"


class StateError(ApplianceError):
    """The state directory cannot be read or written."""

    code = "state.unusable"


class KeyFileError(ApplianceError):
    """A key file is missing, unreadable or of another kind."""

    code = "key.unusable"


class BundleError(ApplianceError):
    """The file is not a bundle, is cut short, or has a format this release does not read."""

    code = "bundle.format"


class BundleUnsigned(BundleError):
    """The bundle carries no signature."""

    code = "bundle.unsigned"


class BundleUntrusted(BundleError):
    """The bundle is signed by a key that this box does not trust."""

    code = "bundle.untrusted"


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


class StoreError(ApplianceError):
    """A version at rest is damaged or incomplete."""

    code = "store.damaged"


class UnknownModel(StoreError):
    """No model of this name."""

    code = "model.unknown"


class UnknownVersion(StoreError):
    """The model has no such version."""

    code = "version.unknown"


class DecisionError(ApplianceError):
    """The deployment rules forbid this decision."""

    code = "decision.refused"


class RequestError(ApplianceError):
    """The request does not fit the model's interface; the message names the tensor."""

    code = "request.invalid"


class VersionNotServed(RequestError):
    """The version exists but is not loaded."""

    code = "version.unserved"


class RequestLimit(RequestError):
    """The request has too many bytes or rows."""

    code = "request.limit"


class Unsupported(RequestError):
    """The request asks for something that this server does not do."""

    code = "request.unsupported"


class UnknownRegion(RequestError):
    """No shared memory of this name is registered."""

    code = "region.unknown"


class RegionTaken(RequestError):
    """Shared memory of this name is registered already."""

    code = "region.taken"


class NotGranted(ApplianceError):
    """The configuration does not let clients do this."""

    code = "server.not_granted"


class LoadFailed(ApplianceError):
    """A client's load or unload of a model came to nothing."""

    code = "model.load"


class RegionUnusable(ApplianceError):
    """Shared memory cannot be opened, read or written."""

    code = "region.unusable"


class Overloaded(ApplianceError):
    """A queue is full; nothing was done."""

    code = "server.overloaded"


class DeadlinePassed(ApplianceError):
    """The answer did not come within the caller's deadline."""

    code = "request.deadline"


class Draining(ApplianceError):
    """The server is stopping and takes no more work."""

    code = "server.draining"


class ListenError(ApplianceError):
    """An address or socket cannot be bound."""

    code = "server.listen"


class Unreachable(ApplianceError):
    """No runtime answers."""

    code = "server.unreachable"


class AuditError(ApplianceError):
    """The audit log failed."""

    code = "audit.failed"


class AuditUnwritable(AuditError):
    """The audit log cannot take a record, so nothing may be answered."""

    code = "audit.unwritable"


class AuditBroken(AuditError):
    """The audit log does not verify; the message names the first broken place."""

    code = "audit.broken"


class UnknownRecord(AuditError):
    """The audit log has no such record."""

    code = "audit.unknown"


class DriftError(ApplianceError):
    """A drift check cannot be made."""

    code = "drift.failed"
