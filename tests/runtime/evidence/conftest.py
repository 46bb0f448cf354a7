"""What the tests of evidence share."""

import pytest

from appliance import journal


@pytest.fixture
def journalled(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """The events of this process, each with its way."""
    told: list[tuple[str, object]] = []
    monkeypatch.setattr(journal, "event", lambda name, **more: told.append((name, more.get("way"))))
    monkeypatch.setattr(
        journal, "failure", lambda name, _error, **more: told.append((name, more.get("way")))
    )
    return told
