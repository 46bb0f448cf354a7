"""One thing that was looked at. Leaves to others: looking, printing."""

from dataclasses import dataclass
from enum import StrEnum

from appliance.errors import ApplianceError


class Verdict(StrEnum):
    """What came of looking."""

    WELL = "well"
    WARNING = "warning"
    TROUBLE = "trouble"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found of `subject`: a sentence, and what to do unless all is well."""

    subject: str
    verdict: Verdict
    told: str
    remedy: str = ""


def well(subject: str, told: str) -> Finding:
    """Nothing to do."""
    return Finding(subject=subject, verdict=Verdict.WELL, told=told)


def warning(subject: str, told: str, remedy: str) -> Finding:
    """It works, and had better be seen to."""
    return Finding(subject=subject, verdict=Verdict.WARNING, told=told, remedy=remedy)


def trouble(subject: str, told: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(subject=subject, verdict=Verdict.TROUBLE, told=told, remedy=remedy)


def failed(subject: str, error: ApplianceError) -> Finding:
    """The trouble that `error` tells of."""
    return trouble(subject, str(error), error.remedy)
