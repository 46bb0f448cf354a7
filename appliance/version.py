"""Names and numbers: models, versions and this release.

Knows: what a legal model name and version number look like. Rules: a name is safe as a directory and in
a URL; a version is a positive whole number. Leaves to others: what they stand for.
"""

import re
from functools import cache
from importlib import metadata
from typing import Annotated

import msgspec

from appliance.errors import UnknownModel, UnknownVersion

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}\Z"
ModelName = Annotated[str, msgspec.Meta(pattern=NAME_PATTERN)]
VersionNumber = Annotated[int, msgspec.Meta(ge=1)]


@cache
def release() -> str:
    """The number of this Holdfast release, from the installed metadata."""
    return metadata.version("holdfast")


def check_name(name: str) -> str:
    """Return `name` when it can be a model's name; UnknownModel otherwise."""
    if not re.match(NAME_PATTERN, name):
        raise UnknownModel(
            f"'{name}' cannot be a model name",
            remedy="use letters, digits, '.', '_' or '-', starting with a letter or digit",
        )
    return name


def parse_version(text: str) -> int:
    """Return the version number in `text`; UnknownVersion when it is no positive whole number."""
    if not re.fullmatch(r"[1-9][0-9]{0,17}", text):
        raise UnknownVersion(
            f"'{text}' is not a version number", remedy="give a positive whole number such as 2"
        )
    return int(text)
