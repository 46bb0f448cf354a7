"""How what commands print ends when nobody reads on."""

import os

import pytest

from appliance.commands import reporting
from appliance.exits import BROKEN_PIPE
from tui.printing import out


def test_a_reader_who_went_away_ends_a_command_as_the_table_of_exit_codes_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        monkeypatch.setattr("sys.stdout", pipe)
        with pytest.raises(SystemExit) as ended:
            reporting(lambda: out().print("a line"))()
        assert ended.value.code == BROKEN_PIPE
