"""The root of every error. Leaves to others: the kinds."""

from typing import ClassVar


class ApplianceError(Exception):
    """The root: str(error) is the message; `remedy` says what to do next; `code` is stable."""

    code: ClassVar[str] = "appliance.failed"

    def __init__(self, message: str, *, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy
