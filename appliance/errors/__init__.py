"""Every error an operator, engineer or client can meet, as one tree.

Knows: the stable code of each kind of failure. Rules: a class has one `code`, a raise has a message
(what happened) and a `remedy` (what to do next); tests assert on codes. Leaves to others: gRPC status
codes (`runtime.interceptors`) and exit codes (`appliance.exits`).

    ApplianceError
    ├── ConfigError            config.invalid        the TOML file or an option
    ├── StateError             state.unusable        the state directory
    ├── KeyFileError           key.unusable          a signing or trust key file
    ├── CertificateError       certificate.unusable  a certificate, its key or a denylist
    ├── BundleError            bundle.format         the file is no bundle, or is cut short
    │   ├── BundleUnsigned     bundle.unsigned
    │   ├── BundleUntrusted    bundle.untrusted      signed by a key nobody here trusts
    │   │   ├── BundleRevoked  bundle.revoked        by a key that was revoked here
    │   │   └── BundleExpired  bundle.expired        outside the time of its signer
    │   ├── BundleOlder        bundle.older          an older edition than one installed here
    │   ├── BundleIncompatible bundle.incompatible   made for another box or a newer release
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
    │   ├── EngineLoad         engine.load
    │   └── GpuError           gpu.failed            the GPU's driver, or a library on it
    │       ├── GpuUnusable    gpu.unusable          no GPU that can be used
    │       ├── GpuMemory      gpu.memory            the GPU has no room
    │       └── GpuLost        gpu.lost              the GPU's context is broken for good
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
    ├── SequenceBroken         sequence.broken       the request's sequence ended before its turn came
    ├── Overloaded             server.overloaded     a queue is full
    │   └── StorageFull        server.storage        the disk is too full to record answers
    ├── DeadlinePassed         request.deadline      no answer came in the time that the caller allows
    ├── Draining               server.draining       the server is stopping
    ├── ListenError            server.listen         an address that cannot be bound
    ├── Unreachable            server.unreachable    no runtime answers on the control socket
    ├── AuditError             audit.failed
    │   ├── AuditUnwritable    audit.unwritable      the log cannot take a record
    │   ├── AuditBroken        audit.broken          the log does not verify
    │   ├── NotCovered         audit.uncovered       no checkpoint covers the record yet
    │   ├── Unproven           audit.unproven        a receipt or consistency proof that does not verify
    │   ├── UnknownLog         witness.unknown       a log that this witness does not watch
    │   ├── WitnessRefused     witness.refused       a checkpoint that does not follow from the one before
    │   ├── UnknownRecord      audit.unknown
    │   ├── PayloadBroken      payload.broken        a kept payload does not fit its record
    │   └── PayloadGone        payload.gone          it is not kept, or no longer
    ├── AccessError            access.refused        the caller may not
    │   ├── Unidentified       access.unidentified   nothing shown names a principal
    │   ├── Forbidden          access.forbidden      the role does not allow it, or not for this model
    │   ├── LimitReached       access.limit          as much as one principal may take
    │   └── TokenError         access.token          a token that cannot be issued or revoked
    └── DriftError             drift.failed          a check that cannot be made
"""

from appliance.errors.access import (
    AccessError,
    Forbidden,
    LimitReached,
    TokenError,
    Unidentified,
)
from appliance.errors.box import (
    AuditBroken,
    AuditError,
    AuditUnwritable,
    CertificateError,
    ConfigError,
    DecisionError,
    DriftError,
    KeyFileError,
    NotCovered,
    PayloadBroken,
    PayloadGone,
    StateError,
    StoreError,
    UnknownLog,
    UnknownModel,
    UnknownRecord,
    UnknownVersion,
    Unproven,
    WitnessRefused,
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
    SequenceBroken,
    StorageFull,
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
    BundleExpired,
    BundleIncompatible,
    BundleOlder,
    BundleRevoked,
    BundleSignature,
    BundleStale,
    BundleUnsigned,
    BundleUntrusted,
    EngineBuild,
    EngineError,
    EngineLoad,
    GoldenMissed,
    GpuError,
    GpuLost,
    GpuMemory,
    GpuUnusable,
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
    "AccessError",
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
    "BundleExpired",
    "BundleIncompatible",
    "BundleOlder",
    "BundleRevoked",
    "BundleSignature",
    "BundleStale",
    "BundleUnsigned",
    "BundleUntrusted",
    "CertificateError",
    "ConfigError",
    "DeadlinePassed",
    "DecisionError",
    "Draining",
    "DriftError",
    "EngineBuild",
    "EngineError",
    "EngineLoad",
    "Forbidden",
    "GoldenMissed",
    "GpuError",
    "GpuLost",
    "GpuMemory",
    "GpuUnusable",
    "KeyFileError",
    "LimitMissed",
    "LimitReached",
    "ListenError",
    "LoadFailed",
    "NotCovered",
    "NotGranted",
    "Overloaded",
    "PayloadBroken",
    "PayloadGone",
    "ProofError",
    "RecipeError",
    "RegionTaken",
    "RegionUnusable",
    "RequestError",
    "RequestLimit",
    "SequenceBroken",
    "SourceError",
    "SourceFormat",
    "SourceLimit",
    "SourceUnsupported",
    "SpecError",
    "StateError",
    "StorageFull",
    "StoreError",
    "ThresholdMissed",
    "TokenError",
    "Unidentified",
    "UnknownLog",
    "UnknownModel",
    "UnknownRecord",
    "UnknownRegion",
    "UnknownVersion",
    "Unproven",
    "Unreachable",
    "Unsupported",
    "VersionNotServed",
    "WitnessRefused",
]
