"""Settings of what this box lets in.

Knows: the bounds beside the trust directory. Leaves to others: holding bundles against them
(`compiler.admission`).
"""

from typing import Annotated, Literal

import msgspec

from appliance.config.section import Section


class BundlesConfig(Section, frozen=True, kw_only=True):
    """Which bundles may become versions here.

    `compatible` names the kinds of box that this one is; with any, a bundle must be for one of them.
    `validity_by` says which time a signer's `since` and `until` are held against: this box's clock, or,
    for boxes whose clock drifts, the signing time that the bundle must then carry. With `signed_source`,
    the source must be signed too, by a signer with the role `source`. A bundle whose build was cut short
    `interruptions_max` times running is not tried again unasked.
    """

    compatible: tuple[str, ...] = ()
    validity_by: Literal["clock", "signing-time"] = "clock"
    signed_source: bool = False
    interruptions_max: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 3
