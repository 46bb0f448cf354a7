"""What every kind of audit record is made of.

Knows: the base of a record and what the log can be searched by. Rules: only plain values, no floating-point
numbers. Leaves to others: the kinds themselves.
"""

from typing import Annotated, TypeAlias

import msgspec

Natural = Annotated[int, msgspec.Meta(ge=0)]
# Sixty-four hex digits; checked by length alone because verifying reads millions of them.
Digest = Annotated[str, msgspec.Meta(min_length=64, max_length=64)]


# What the log can be searched by: category, model, version, event id, result, principal. The event id ties
# records together: a request's or a decision's. The result is one word: ok, an error's code, an act, or
# done, failed, interrupted. A plain tuple, because verifying makes one for each of millions of records.
Columns: TypeAlias = tuple[str, str, int, str | None, str, str]


class Record(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    tag_field="category",
):
    """The part of an entry that its writer says.

    A field that was added later has a default, and a record that holds the default is written without it:
    so the canonical bytes of what older releases wrote stay what they were.
    """

    def columns(self) -> Columns:
        """What the log can find this record by."""
        return (str(self.__struct_config__.tag), "", 0, None, "", "")
