"""Small plots: numbers, ticks, and well-formed drawings of whatever is given."""

from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compiler.report.svg import Axis, Bar, Line, bars, lines, number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.96812, "0.9681"),
        (12345.6, "12,346"),
        (1.7e-7, "1.7e-07"),
        (1.79e308, "1.8e+308"),
        (-3.25, "-3.25"),
    ],
)
def test_numbers_are_short(value, text):
    assert number(value) == text


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.text(max_size=60), st.floats(0, 1e308), st.floats(0, 1e308)),
        min_size=1,
        max_size=12,
    ),
    st.booleans(),
)
def test_any_values_and_names_make_a_well_formed_plot(rows, log):
    values = [value for _, *pair in rows for value in pair]
    axis = Axis(low=1e-9, high=1e300, log=True) if log else Axis(low=0.0, high=max(*values, 1.0))
    made = bars(
        "a",
        "b",
        rows[0][0],
        [
            Bar(label=name, values=((one, number(one), "first"),), mark=other)
            for name, one, other in rows
        ],
        axis,
    )
    root = ET.fromstring(made)
    for rect in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert 0 <= float(rect.attrib["width"]) <= 720
    courses = [
        Line(label=name, points=((1.0, one), (8.0, other)), kept=at == 0)
        for at, (name, one, other) in enumerate(rows)
    ]
    across = Axis(low=1.0, high=8.0, log=True)
    ET.fromstring(lines("a", "b", "c", courses, (across, axis)))


@given(st.floats(1e-12, 1e12), st.floats(1.001, 1e9))
def test_ticks_are_few_and_inside(low, factor):
    for axis in (Axis(low=0.0, high=low), Axis(low=low, high=low * factor)):
        ticks = axis.ticks()
        assert 1 <= len(ticks) <= 8
        assert all(axis.low - 1e-6 * low <= tick <= axis.high * (1 + 1e-6) for tick in ticks)
