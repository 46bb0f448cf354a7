from runtime.protocol import evidence_pb2 as _evidence_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SignRequest(_message.Message):
    __slots__ = ("sequence",)
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    def __init__(self, sequence: _Optional[int] = ...) -> None: ...

class SignReply(_message.Message):
    __slots__ = ("size",)
    SIZE_FIELD_NUMBER: _ClassVar[int]
    size: int
    def __init__(self, size: _Optional[int] = ...) -> None: ...

class EraseRequest(_message.Message):
    __slots__ = ("request_id", "reason")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    reason: str
    def __init__(self, request_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class EraseReply(_message.Message):
    __slots__ = ("payloads",)
    PAYLOADS_FIELD_NUMBER: _ClassVar[int]
    payloads: int
    def __init__(self, payloads: _Optional[int] = ...) -> None: ...

class ListRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class ListReply(_message.Message):
    __slots__ = ("models",)
    MODELS_FIELD_NUMBER: _ClassVar[int]
    models: _containers.RepeatedCompositeFieldContainer[Model]
    def __init__(self, models: _Optional[_Iterable[_Union[Model, _Mapping]]] = ...) -> None: ...

class Model(_message.Message):
    __slots__ = ("name", "active", "previous", "versions", "canary", "canary_per_mille", "shadow", "tuning")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    CANARY_FIELD_NUMBER: _ClassVar[int]
    CANARY_PER_MILLE_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    TUNING_FIELD_NUMBER: _ClassVar[int]
    name: str
    active: int
    previous: int
    versions: _containers.RepeatedCompositeFieldContainer[Version]
    canary: int
    canary_per_mille: int
    shadow: int
    tuning: Tuning
    def __init__(self, name: _Optional[str] = ..., active: _Optional[int] = ..., previous: _Optional[int] = ..., versions: _Optional[_Iterable[_Union[Version, _Mapping]]] = ..., canary: _Optional[int] = ..., canary_per_mille: _Optional[int] = ..., shadow: _Optional[int] = ..., tuning: _Optional[_Union[Tuning, _Mapping]] = ...) -> None: ...

class Tuning(_message.Message):
    __slots__ = ("rows_max", "delay_us_max", "lanes", "threads", "bucket_rows")
    ROWS_MAX_FIELD_NUMBER: _ClassVar[int]
    DELAY_US_MAX_FIELD_NUMBER: _ClassVar[int]
    LANES_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    BUCKET_ROWS_FIELD_NUMBER: _ClassVar[int]
    rows_max: int
    delay_us_max: int
    lanes: int
    threads: int
    bucket_rows: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, rows_max: _Optional[int] = ..., delay_us_max: _Optional[int] = ..., lanes: _Optional[int] = ..., threads: _Optional[int] = ..., bucket_rows: _Optional[_Iterable[int]] = ...) -> None: ...

class Version(_message.Message):
    __slots__ = ("number", "role", "loaded", "engine", "bundle_sha256", "built", "release_notes", "thresholds", "damage", "precision", "error_max", "warnings", "trials", "edition")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    LOADED_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_SHA256_FIELD_NUMBER: _ClassVar[int]
    BUILT_FIELD_NUMBER: _ClassVar[int]
    RELEASE_NOTES_FIELD_NUMBER: _ClassVar[int]
    THRESHOLDS_FIELD_NUMBER: _ClassVar[int]
    DAMAGE_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    ERROR_MAX_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    TRIALS_FIELD_NUMBER: _ClassVar[int]
    EDITION_FIELD_NUMBER: _ClassVar[int]
    number: int
    role: str
    loaded: bool
    engine: str
    bundle_sha256: str
    built: str
    release_notes: str
    thresholds: _containers.RepeatedCompositeFieldContainer[Threshold]
    damage: str
    precision: str
    error_max: float
    warnings: _containers.RepeatedScalarFieldContainer[str]
    trials: _containers.RepeatedCompositeFieldContainer[Trial]
    edition: int
    def __init__(self, number: _Optional[int] = ..., role: _Optional[str] = ..., loaded: _Optional[bool] = ..., engine: _Optional[str] = ..., bundle_sha256: _Optional[str] = ..., built: _Optional[str] = ..., release_notes: _Optional[str] = ..., thresholds: _Optional[_Iterable[_Union[Threshold, _Mapping]]] = ..., damage: _Optional[str] = ..., precision: _Optional[str] = ..., error_max: _Optional[float] = ..., warnings: _Optional[_Iterable[str]] = ..., trials: _Optional[_Iterable[_Union[Trial, _Mapping]]] = ..., edition: _Optional[int] = ...) -> None: ...

class Threshold(_message.Message):
    __slots__ = ("metric", "output", "minimum", "reached", "maximum", "segment", "segment_value", "rows")
    METRIC_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    MINIMUM_FIELD_NUMBER: _ClassVar[int]
    REACHED_FIELD_NUMBER: _ClassVar[int]
    MAXIMUM_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_VALUE_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    metric: str
    output: str
    minimum: float
    reached: float
    maximum: float
    segment: str
    segment_value: str
    rows: int
    def __init__(self, metric: _Optional[str] = ..., output: _Optional[str] = ..., minimum: _Optional[float] = ..., reached: _Optional[float] = ..., maximum: _Optional[float] = ..., segment: _Optional[str] = ..., segment_value: _Optional[str] = ..., rows: _Optional[int] = ...) -> None: ...

class Trial(_message.Message):
    __slots__ = ("engine", "precision", "median_ms", "verdict")
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    PRECISION_FIELD_NUMBER: _ClassVar[int]
    MEDIAN_MS_FIELD_NUMBER: _ClassVar[int]
    VERDICT_FIELD_NUMBER: _ClassVar[int]
    engine: str
    precision: str
    median_ms: float
    verdict: str
    def __init__(self, engine: _Optional[str] = ..., precision: _Optional[str] = ..., median_ms: _Optional[float] = ..., verdict: _Optional[str] = ...) -> None: ...

class DecideRequest(_message.Message):
    __slots__ = ("model", "act", "version", "actor", "reason", "per_mille", "tuning")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    ACT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PER_MILLE_FIELD_NUMBER: _ClassVar[int]
    TUNING_FIELD_NUMBER: _ClassVar[int]
    model: str
    act: str
    version: int
    actor: str
    reason: str
    per_mille: int
    tuning: Tuning
    def __init__(self, model: _Optional[str] = ..., act: _Optional[str] = ..., version: _Optional[int] = ..., actor: _Optional[str] = ..., reason: _Optional[str] = ..., per_mille: _Optional[int] = ..., tuning: _Optional[_Union[Tuning, _Mapping]] = ...) -> None: ...

class DecideReply(_message.Message):
    __slots__ = ("decision_id", "model")
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    decision_id: str
    model: Model
    def __init__(self, decision_id: _Optional[str] = ..., model: _Optional[_Union[Model, _Mapping]] = ...) -> None: ...

class StatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchRequest(_message.Message):
    __slots__ = ("interval_ms",)
    INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    interval_ms: int
    def __init__(self, interval_ms: _Optional[int] = ...) -> None: ...

class StatusReply(_message.Message):
    __slots__ = ("release", "address", "metrics_address", "wall_ns", "started_wall_ns", "draining", "audit_records", "audit_queue", "audit_failure", "models", "certificates", "certificates_failure", "gpus", "checkpoints_blocked")
    RELEASE_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    METRICS_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    WALL_NS_FIELD_NUMBER: _ClassVar[int]
    STARTED_WALL_NS_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    AUDIT_RECORDS_FIELD_NUMBER: _ClassVar[int]
    AUDIT_QUEUE_FIELD_NUMBER: _ClassVar[int]
    AUDIT_FAILURE_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATES_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATES_FAILURE_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINTS_BLOCKED_FIELD_NUMBER: _ClassVar[int]
    release: str
    address: str
    metrics_address: str
    wall_ns: int
    started_wall_ns: int
    draining: bool
    audit_records: int
    audit_queue: int
    audit_failure: str
    models: _containers.RepeatedCompositeFieldContainer[ModelStatus]
    certificates: _containers.RepeatedCompositeFieldContainer[Certificate]
    certificates_failure: str
    gpus: _containers.RepeatedCompositeFieldContainer[Gpu]
    checkpoints_blocked: _containers.RepeatedCompositeFieldContainer[BlockedWay]
    def __init__(self, release: _Optional[str] = ..., address: _Optional[str] = ..., metrics_address: _Optional[str] = ..., wall_ns: _Optional[int] = ..., started_wall_ns: _Optional[int] = ..., draining: _Optional[bool] = ..., audit_records: _Optional[int] = ..., audit_queue: _Optional[int] = ..., audit_failure: _Optional[str] = ..., models: _Optional[_Iterable[_Union[ModelStatus, _Mapping]]] = ..., certificates: _Optional[_Iterable[_Union[Certificate, _Mapping]]] = ..., certificates_failure: _Optional[str] = ..., gpus: _Optional[_Iterable[_Union[Gpu, _Mapping]]] = ..., checkpoints_blocked: _Optional[_Iterable[_Union[BlockedWay, _Mapping]]] = ...) -> None: ...

class BlockedWay(_message.Message):
    __slots__ = ("way", "trouble", "code", "remedy")
    WAY_FIELD_NUMBER: _ClassVar[int]
    TROUBLE_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    REMEDY_FIELD_NUMBER: _ClassVar[int]
    way: str
    trouble: str
    code: str
    remedy: str
    def __init__(self, way: _Optional[str] = ..., trouble: _Optional[str] = ..., code: _Optional[str] = ..., remedy: _Optional[str] = ...) -> None: ...

class Gpu(_message.Message):
    __slots__ = ("device", "name", "state", "trouble", "restarts", "engines", "memory_free_bytes", "memory_bytes", "busy", "celsius", "watts", "throttled", "ecc_uncorrected")
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    TROUBLE_FIELD_NUMBER: _ClassVar[int]
    RESTARTS_FIELD_NUMBER: _ClassVar[int]
    ENGINES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    BUSY_FIELD_NUMBER: _ClassVar[int]
    CELSIUS_FIELD_NUMBER: _ClassVar[int]
    WATTS_FIELD_NUMBER: _ClassVar[int]
    THROTTLED_FIELD_NUMBER: _ClassVar[int]
    ECC_UNCORRECTED_FIELD_NUMBER: _ClassVar[int]
    device: str
    name: str
    state: str
    trouble: str
    restarts: int
    engines: int
    memory_free_bytes: int
    memory_bytes: int
    busy: float
    celsius: int
    watts: float
    throttled: _containers.RepeatedScalarFieldContainer[str]
    ecc_uncorrected: int
    def __init__(self, device: _Optional[str] = ..., name: _Optional[str] = ..., state: _Optional[str] = ..., trouble: _Optional[str] = ..., restarts: _Optional[int] = ..., engines: _Optional[int] = ..., memory_free_bytes: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., busy: _Optional[float] = ..., celsius: _Optional[int] = ..., watts: _Optional[float] = ..., throttled: _Optional[_Iterable[str]] = ..., ecc_uncorrected: _Optional[int] = ...) -> None: ...

class Certificate(_message.Message):
    __slots__ = ("what", "name", "not_after_ns", "state")
    WHAT_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    NOT_AFTER_NS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    what: str
    name: str
    not_after_ns: int
    state: str
    def __init__(self, what: _Optional[str] = ..., name: _Optional[str] = ..., not_after_ns: _Optional[int] = ..., state: _Optional[str] = ...) -> None: ...

class ModelStatus(_message.Message):
    __slots__ = ("name", "active", "previous", "answered", "failed", "rows", "batches", "queued", "p50_ms", "p99_ms", "canary", "canary_per_mille", "shadow")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    ANSWERED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    P50_MS_FIELD_NUMBER: _ClassVar[int]
    P99_MS_FIELD_NUMBER: _ClassVar[int]
    CANARY_FIELD_NUMBER: _ClassVar[int]
    CANARY_PER_MILLE_FIELD_NUMBER: _ClassVar[int]
    SHADOW_FIELD_NUMBER: _ClassVar[int]
    name: str
    active: int
    previous: int
    answered: int
    failed: int
    rows: int
    batches: int
    queued: int
    p50_ms: float
    p99_ms: float
    canary: int
    canary_per_mille: int
    shadow: int
    def __init__(self, name: _Optional[str] = ..., active: _Optional[int] = ..., previous: _Optional[int] = ..., answered: _Optional[int] = ..., failed: _Optional[int] = ..., rows: _Optional[int] = ..., batches: _Optional[int] = ..., queued: _Optional[int] = ..., p50_ms: _Optional[float] = ..., p99_ms: _Optional[float] = ..., canary: _Optional[int] = ..., canary_per_mille: _Optional[int] = ..., shadow: _Optional[int] = ...) -> None: ...
