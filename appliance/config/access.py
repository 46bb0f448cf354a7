"""Settings of access: who may ask what, and how much of the box one principal may take.

Leaves to others: acting on them (`runtime.access`), the roles themselves (`appliance.access`).
"""

from typing import Annotated, Literal

import msgspec

from appliance.config.section import Natural, Positive, Section

Name = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]


class PrincipalConfig(Section, frozen=True, kw_only=True):
    """One `[[access.principals]]`: a principal by its exact name, before what its certificate or token says.

    `models` none: all of them, as far as the role has any. A limit left out is that of `[access]`.
    """

    name: Name
    role: Literal["client", "operator", "auditor", "engineer", "none"]
    models: tuple[Name, ...] | None = None
    requests_per_second_max: Natural | None = None
    calls_max: Positive | None = None
    bytes_in_flight_max: Positive | None = None


class AccessConfig(Section, frozen=True, kw_only=True):
    """Who may ask what. Limits hold for each principal; 0 requests a second: as many as it likes.

    The groups are the system's own, by name; they decide what whoever opens the control socket may do.
    """

    open_on_loopback: bool = True
    site: str = ""
    certificate_role: Literal["", "client"] = ""
    requests_per_second_max: Natural = 0
    calls_max: Positive = 256
    bytes_in_flight_max: Positive = 256 << 20
    principals: tuple[PrincipalConfig, ...] = ()
    control_group: str = ""
    operator_groups: tuple[Name, ...] = ()
    auditor_groups: tuple[Name, ...] = ()
    engineer_groups: tuple[Name, ...] = ()
