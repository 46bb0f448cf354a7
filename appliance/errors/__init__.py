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

from appliance.errors.box import (
    AuditBroken,
    AuditError,
    AuditUnwritable,
    ConfigError,
    DecisionError,
    DriftError,
    KeyFileError,
    StateError,
    StoreError,
    UnknownModel,
    UnknownRecord,
    UnknownVersion,
)
from appliance.errors.root import (
    ApplianceError,
)
from appliance.errors.serving import (
    DeadlinePassed,
    Draining,
    ListenError,
    LoadFailed,
    NotGranted,
    Overloaded,
    RegionTaken,
    RegionUnusable,
    RequestError,
    RequestLimit,
    UnknownRegion,
    Unreachable,
    Unsupported,
    VersionNotServed,
)
from appliance.errors.workshop import (
    BuildBusy,
    BuildCrashed,
    BuildError,
    BuildLimit,
    BuildMarked,
    BundleContent,
    BundleError,
    BundleSignature,
    BundleStale,
    BundleUnsigned,
    BundleUntrusted,
    EngineBuild,
    EngineError,
    EngineLoad,
    GoldenMissed,
    LimitMissed,
    ProofError,
    RecipeError,
    SourceError,
    SourceFormat,
    SourceLimit,
    SourceUnsupported,
    SpecError,
    ThresholdMissed,
)

__all__ = [
    "ApplianceError",
    "AuditBroken",
    "AuditError",
    "AuditUnwritable",
    "BuildBusy",
    "BuildCrashed",
    "BuildError",
    "BuildLimit",
    "BuildMarked",
    "BundleContent",
    "BundleError",
    "BundleSignature",
    "BundleStale",
    "BundleUnsigned",
    "BundleUntrusted",
    "ConfigError",
    "DeadlinePassed",
    "DecisionError",
    "Draining",
    "DriftError",
    "EngineBuild",
    "EngineError",
    "EngineLoad",
    "GoldenMissed",
    "KeyFileError",
    "LimitMissed",
    "ListenError",
    "LoadFailed",
    "NotGranted",
    "Overloaded",
    "ProofError",
    "RecipeError",
    "RegionTaken",
    "RegionUnusable",
    "RequestError",
    "RequestLimit",
    "SourceError",
    "SourceFormat",
    "SourceLimit",
    "SourceUnsupported",
    "SpecError",
    "StateError",
    "StoreError",
    "ThresholdMissed",
    "UnknownModel",
    "UnknownRecord",
    "UnknownRegion",
    "UnknownVersion",
    "Unreachable",
    "Unsupported",
    "VersionNotServed",
]
