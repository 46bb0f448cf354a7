"""What can keep a request from its answer."""

from appliance.errors.root import ApplianceError


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


class SequenceBroken(ApplianceError):
    """The request's sequence ended before its turn came; nothing was computed."""

    code = "sequence.broken"


class Overloaded(ApplianceError):
    """A queue is full; nothing was done."""

    code = "server.overloaded"


class StorageFull(Overloaded):
    """The disk is too full to record what would be answered."""

    code = "server.storage"


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
