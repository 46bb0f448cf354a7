"""How numbers read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.deployment import Tuning
from tui import wording
from tui.screens.serving import ServingScreen

NOW_NS = 1_790_000_000_000_000_000


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (950, "950"),
        (999.4, "999"),
        (999.6, "1.0 k"),
        (1234, "1.2 k"),
        (34_000, "34 k"),
        (999_600, "1.0 M"),
        (5_600_000, "5.6 M"),
        (7.2e9, "7.2 G"),
    ],
)
def test_counts_are_short(value: float, text: str) -> None:
    assert wording.count(value) == text


@given(st.floats(0, 9e11))
def test_a_count_fits_its_column(value: float) -> None:
    assert len(wording.count(value)) <= 6


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "-"), (0.0, "0/s"), (0.42, "0.4/s"), (9.96, "10/s"), (1234.0, "1.2 k/s")],
)
def test_rates(value: float | None, text: str) -> None:
    assert wording.rate(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "-"),
        (0.854, "0.85 ms"),
        (0.996, "1.0 ms"),
        (3.42, "3.4 ms"),
        (120.4, "120 ms"),
        (999.6, "1.0 s"),
        (61_000.0, "61 s"),
    ],
)
def test_latencies(value: float, text: str) -> None:
    assert wording.latency(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 s"),
        (45, "45 s"),
        (61, "1 min"),
        (7500, "2 h 05 min"),
        (86_400 * 3 + 3600 * 4, "3 d 4 h"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    assert wording.span(seconds) == text


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        ("2026-09-21T14:13:10Z", "just now"),
        ("2026-09-21T14:00:00.123456Z", "13 min ago"),
        ("2026-09-21T12:00:00Z", "2 h ago"),
        ("2026-09-11T12:00:00Z", "10 d ago"),
        ("yesterday", "yesterday"),
        ("", "-"),
    ],
)
def test_how_long_ago(moment: str, text: str) -> None:
    assert wording.ago(moment, NOW_NS) == text


def test_a_time_to_the_second() -> None:
    assert wording.moment("2026-11-20T23:44:02.167490Z") == "2026-11-20 23:44:02 UTC"
    assert wording.moment("yesterday") == "yesterday"
    assert wording.moment("") == "-"


@pytest.mark.parametrize(("thousandths", "text"), [(50, "5%"), (5, "0.5%"), (999, "99.9%")])
def test_shares(thousandths: int, text: str) -> None:
    assert wording.share(thousandths) == text
    assert wording.per_mille(text) == thousandths


@pytest.mark.parametrize(
    ("text", "thousandths"),
    [("5%", 50), (" 5 % ", 50), ("12.50%", 125), ("50 per mille", 50), ("7‰", 7), ("2 per cent", 20)],
)  # fmt: skip
def test_a_share_as_an_operator_writes_it(text: str, thousandths: int) -> None:
    assert wording.per_mille(text) == thousandths


@pytest.mark.parametrize(
    "text", ["", "5", "0.05", "0%", "100%", "0.05%", "0.5 per mille", "-5%", "5 %%", "all"]
)
def test_what_is_no_share_is_told_with_the_form(text: str) -> None:
    with pytest.raises(ValueError, match="such as 5%"):
        wording.per_mille(text)


def test_roles() -> None:
    assert [wording.role(name, 50) for name in ("active", "canary", "")] == [
        *("active", "canary 5%", "-"),
    ]
    assert wording.canary(None, 0) == "-"


def test_nouns() -> None:
    assert wording.plural(1, "version") == "1 version"
    assert wording.plural(12_034, "record") == "12,034 records"


def test_every_key_on_the_screen_is_one_of_the_table() -> None:
    bound = {binding.key: binding.action for binding in ServingScreen.BINDINGS}  # type: ignore[union-attr]
    assert {key.key: key.action for key in wording.KEYS}.items() <= bound.items()


def test_a_tuning_reads_as_a_phrase():
    plain = Tuning(rows_max=1, delay_us_max=0, lanes=1, threads=0)
    full = Tuning(rows_max=16, delay_us_max=1200, lanes=2, threads=4, bucket_rows=(1, 16))
    assert wording.tuning(None) == wording.NOTHING
    assert wording.tuning(plain) == "1 lane on all cores, up to 1 row"
    told = "2 lanes on 4 threads each, up to 16 rows, delay 1,200 us, buckets 1, 16"
    assert wording.tuning(full) == told
