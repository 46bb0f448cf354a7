"""Engines that no longer fit this box, and what serves in their place.

Knows: when an engine fits: its stamp is the one that it would get today, so one without a stamp never does.
Rules: an engine that does not fit is never loaded; the version's fallback serves when that one fits, proves
itself at loading like any engine, and everyone is told; else the version does not load. Leaves to others:
making the engine anew (`holdfast-compile refresh`).
"""

from dataclasses import replace
from typing import NamedTuple

import msgspec

from appliance import journal
from appliance.errors import EngineLoad
from appliance.store import EngineEntry, StoredVersion
from runtime.engines.stamp import stamp_of


class Fitting(NamedTuple):
    """A version with the engine that is to be loaded, and why it is not its own; "" when it is."""

    stored: StoredVersion
    why: str


def with_fitting_engine(stored: StoredVersion) -> Fitting:
    """The version with its own engine, or, when that no longer fits, with its fallback as the engine.

    Raises EngineLoad when neither fits.
    """
    why = misfit(stored.record.engine)
    return with_fallback(stored, why) if why else Fitting(stored, "")


def with_fallback(stored: StoredVersion, why: str) -> Fitting:
    """The version with its fallback as the engine, since its own cannot serve here: `why`.

    Raises EngineLoad when it has none that fits.
    """
    own, spare = stored.record.engine, stored.record.fallback
    if spare is None or misfit(spare):
        also = f", nor does the one to fall back on: {misfit(spare)}" if spare else ""
        raise EngineLoad(
            f"the engine of version {stored.number} of '{stored.record.model}' does not fit this box: "
            f"{why}{also}",
            remedy="run `holdfast-compile refresh`, or build the bundle again on this box",
        )
    told = f"its {own.kind} engine does not fit this box ({why}); {spare.kind} serves in its place"
    journal.event("engine.stale", model=stored.record.model, version=stored.number, why=told)
    record = msgspec.structs.replace(stored.record, engine=spare, fallback=None)
    return Fitting(replace(stored, record=record), told)


def misfit(engine: EngineEntry) -> str:
    """What has changed since `engine` was built, "" when nothing has."""
    try:
        now = stamp_of(engine.kind)
    except EngineLoad as error:
        return str(error)
    changed = (
        key for key in sorted({*now, *engine.stamp}) if now.get(key) != engine.stamp.get(key)
    )
    return ", ".join(f"{key} was {engine.stamp.get(key)}, is {now.get(key)}" for key in changed)
