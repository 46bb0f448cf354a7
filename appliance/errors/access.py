"""What keeps a caller out."""

from appliance.errors.root import ApplianceError


class AccessError(ApplianceError):
    """The caller is refused; nothing was done."""

    code = "access.refused"


class Unidentified(AccessError):
    """Nothing that the caller showed names a principal of this box."""

    code = "access.unidentified"


class Forbidden(AccessError):
    """The principal's role does not allow this call, or not for this model."""

    code = "access.forbidden"


class LimitReached(AccessError):
    """The principal has taken as much of the box as one may."""

    code = "access.limit"


class TokenError(AccessError):
    """A bearer token that cannot be issued, found or revoked."""

    code = "access.token"
