"""What can be wrong with the box: its settings, keys, versions at rest, decisions and evidence."""

from appliance.errors.root import ApplianceError


class ConfigError(ApplianceError):
    """The configuration file or a command option is wrong."""

    code = "config.invalid"


class StateError(ApplianceError):
    """The state directory cannot be read or written."""

    code = "state.unusable"


class KeyFileError(ApplianceError):
    """A key file is missing, unreadable or of another kind."""

    code = "key.unusable"


class CertificateError(ApplianceError):
    """A certificate, its key or a denylist is missing, unreadable or does not fit."""

    code = "certificate.unusable"


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


class AuditError(ApplianceError):
    """The audit log failed."""

    code = "audit.failed"


class AuditUnwritable(AuditError):
    """The audit log cannot take a record, so nothing may be answered."""

    code = "audit.unwritable"


class AuditBroken(AuditError):
    """The audit log does not verify; the message names the first broken place."""

    code = "audit.broken"


class NotCovered(AuditError):
    """No checkpoint covers the record yet, so nothing can be proven of it."""

    code = "audit.uncovered"


class Unproven(AuditError):
    """A receipt or a consistency proof does not verify."""

    code = "audit.unproven"


class UnknownLog(AuditError):
    """This witness does not watch the log."""

    code = "witness.unknown"


class WitnessRefused(AuditError):
    """A witness does not cosign a checkpoint, which does not follow from what it saw before."""

    code = "witness.refused"


class UnknownRecord(AuditError):
    """The audit log has no such record."""

    code = "audit.unknown"


class PayloadBroken(AuditError):
    """A kept payload does not fit its record, or cannot be read."""

    code = "payload.broken"


class PayloadGone(AuditError):
    """No payload of this request is kept, or no longer."""

    code = "payload.gone"


class DriftError(ApplianceError):
    """A drift check cannot be made."""

    code = "drift.failed"
