"""What every table of the configuration file is made of.

Knows: the base of a table, the common bounds of its values. Leaves to others: the tables themselves.
"""

from typing import Annotated

import msgspec

# gRPC and the system's timers take no more than these.
Positive = Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
Natural = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Seconds = Annotated[float, msgspec.Meta(gt=0.0, le=86_400.0)]


class Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of the file."""
