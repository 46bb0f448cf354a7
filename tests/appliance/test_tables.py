"""TOML and JSON into typed structs: what is refused, and in which words."""

from enum import StrEnum
from typing import Annotated, Literal

import msgspec
import pytest

from appliance.errors import ConfigError, SpecError
from appliance.tables import canonical_json, from_json, from_table, nearest, read_toml


class Side(StrEnum):
    """Words of which one is meant."""

    LEFT = "left"
    RIGHT = "right"


class Inner(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table in a table."""

    minimum: Annotated[int, msgspec.Meta(ge=1)] = 1
    side: Side | None = None


class Step(msgspec.Struct, frozen=True, kw_only=True, tag_field="step"):
    """One of several tables, told apart by a key."""


class First(Step, tag="first"):
    """One."""


class Second(Step, tag="second"):
    """The other."""

    by: Literal[1, 2] = 1


class Outer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the tests read."""

    name: str
    inner: tuple[Inner, ...] = ()
    named: dict[str, Inner] = {}
    steps: tuple[First | Second, ...] = ()


def test_toml_is_read_into_a_struct(tmp_path):
    path = tmp_path / "x.toml"
    path.write_text('name = "n"\n[[inner]]\nminimum = 3\n')
    assert read_toml(path, Outer, SpecError) == Outer(name="n", inner=(Inner(minimum=3),))


@pytest.mark.parametrize(
    ("text", "told", "remedy"),
    [
        ('nam = "n"', "nam", "did you mean `name`?"),
        ('name = "n"\n[[inner]]\nminimun = 3', "inner[0]", "did you mean `minimum`?"),
        ('name = "n"\nqqq = 1', "qqq", "remove the key"),
        (
            'name = "n"\nminimum = 3',
            "minimum",
            "`minimum` is a key of another table: move it there or remove it",
        ),
        ("name = 3", "$.name", "correct the value"),
        ("[[inner]]", "missing required", "add `name`"),
        ('name = "n"\n[[inner]]\nside = "up"', "up", "use one of left, right"),
        ('name = "n"\n[named.x]\nside = "`$"', "`$", "use one of left, right"),
        ('name = "n"\n[[steps]]\nstep = "thrd"', "thrd", "use one of first, second"),
        ('name = "n"\n[[steps]]\nstep = "second"\nby = 3', "by", "use one of 1, 2"),
        ('name = "n"\n[[inner]]\nminimum = 0', ">= 1", "correct the value"),
        ("name =", "not TOML", "correct the file"),
        ('name = "\xff"', "not TOML", "correct the file"),
        ("name = " + "[" * 5000, "not TOML", "correct the file"),
    ],
)
def test_a_wrong_file_is_refused_with_place_and_remedy(tmp_path, text, told, remedy):
    path = tmp_path / "x.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(SpecError) as refused:
        read_toml(path, Outer, SpecError)
    assert told in str(refused.value)
    assert str(path) in str(refused.value)
    assert refused.value.remedy == remedy


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError) as refused:
        read_toml(tmp_path / "x.toml", Outer, ConfigError)
    assert refused.value.remedy == "check the path"


def test_json_and_plain_values_are_read_the_same_way():
    wanted = Outer(name="n")
    assert from_json(canonical_json(wanted), Outer, SpecError, where="x") == wanted
    assert from_table({"name": "n"}, Outer, SpecError, where="x") == wanted
    for data, remedy in (
        (b"", "correct the file"),
        (b"{", "correct the file"),
        (b"[]", "correct the value"),
        (b'{"name": 1}', "correct the value"),
    ):
        with pytest.raises(SpecError) as refused:
            from_json(data, Outer, SpecError, where="x")
        assert refused.value.remedy == remedy


@pytest.mark.parametrize(
    "data", [b'{"name":"\xff"}', b'{"inner":[' * 100_000, b'{"inner":' + b'[{"x":' * 100_000]
)
def test_hostile_json_is_refused_as_any_other(data):
    """No UTF-8, and nested deeper than the parser's stack."""
    with pytest.raises(SpecError) as refused:
        from_json(data, Outer, SpecError, where="x")
    assert "x: " in str(refused.value)


def test_canonical_json_sorts_and_keeps_no_spaces():
    assert canonical_json({"b": 1.0, "a": ["é"]}) == '{"a":["é"],"b":1.0}'.encode()


@pytest.mark.parametrize(
    ("name", "known", "near"),
    [
        ("wieght", ["weight", "height"], "weight"),
        ("Age ", ["page", "age"], "age"),
        ("body weight", ["body_weight"], "body_weight"),
        ("colour", ["age"], None),
        ("__", ["--"], None),
        ("w" * 49, ["w" * 48], None),
        ("ag", [f"column {number}" for number in range(200)] + ["age"], None),
        ("AGE", [f"column {number}" for number in range(200)] + ["age"], "age"),
        ("age", [], None),
    ],
)
def test_the_nearest_name(name, known, near):
    """Long names and many of them are only compared as a whole."""
    assert nearest(name, known) == near
