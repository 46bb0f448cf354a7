"""The history of installs: states, interruptions, what is kept for ever."""

import msgspec
import pytest

from appliance import errors, installs
from appliance.installs import Install, Installs, InstallState

AT = "2026-11-21T08:00:00.000000Z"
SHA = "ab" * 32


@pytest.fixture
def history(tmp_path) -> Installs:
    return Installs(tmp_path / "installs")


def begun(history, state=InstallState.VERIFIED, **known) -> Install:
    told = {"model": "tiny", "bundle_sha256": SHA} | known
    return history.begin(began=AT, release="1", state=state, **told)


def ended(history, state, count=1, **known) -> None:
    for _ in range(count):
        begun(history, state, **known)


def test_a_try_survives_its_file(history):
    assert history.all() == []
    first = begun(history)
    later = history.change(first, changed="later", state=InstallState.FILED, version=3)
    assert history.all() == [later]
    assert (later.number, later.began, later.changed, later.version) == (1, AT, "later", 3)
    assert begun(history).number == 2


def test_what_is_under_way_while_nobody_builds_was_cut_short(history):
    begun(history, InstallState.REFUSED)
    begun(history, InstallState.BUILDING)
    begun(history, InstallState.PROVEN)
    begun(history, InstallState.PROVEN, model="other")
    history.end_interrupted(
        changed="later", filed=lambda install: 7 if install.model == "tiny" else None
    )
    assert [(item.state, item.at, item.version) for item in history.all()] == [
        ("refused", None, None),
        ("interrupted", "building", None),
        ("filed", None, 7),
        ("interrupted", "proven", None),
    ]


def test_what_ended_is_told_once(history):
    begun(history)
    ended(history, InstallState.REFUSED, told=True)
    ended(history, InstallState.FILED)
    assert [item.number for item in history.untold()] == [3]


def test_a_bundle_that_is_always_cut_short_is_marked(history):
    ended(history, InstallState.INTERRUPTED, 2)
    history.check_interruptions(SHA, "1", 3)
    ended(history, InstallState.INTERRUPTED)
    with pytest.raises(errors.BuildMarked) as refused:
        history.check_interruptions(SHA, "1", 3)
    assert "--again" in refused.value.remedy
    history.check_interruptions("cd" * 32, "1", 3)
    history.check_interruptions(SHA, "2", 3)
    ended(history, InstallState.FAILED)
    history.check_interruptions(SHA, "1", 3)


def test_the_newest_edition_is_of_what_was_filed(history):
    assert history.newest_edition("tiny") is None
    ended(history, InstallState.FILED, edition=4)
    ended(history, InstallState.FILED, edition=2)
    ended(history, InstallState.FILED)
    ended(history, InstallState.REFUSED, edition=9)
    ended(history, InstallState.FILED, edition=8, model="other")
    assert history.newest_edition("tiny") == 4


def test_what_was_filed_is_never_forgotten(history, monkeypatch):
    monkeypatch.setattr(installs, "OTHERS_MAX", 2)
    ended(history, InstallState.FILED)
    begun(history, InstallState.BUILDING)
    ended(history, InstallState.REFUSED, 5)
    assert [item.number for item in history.all()] == [1, 2, 6, 7]


def test_a_damaged_line_stops_nobody(history):
    begun(history)
    (path,) = (history._directory).glob("*.json")
    path.write_text("?")
    assert history.all() == []
    assert begun(history).number == 2


def test_a_line_that_cannot_be_read_makes_no_room_for_others(history, monkeypatch):
    """It may be of what was filed, or of a release to come."""
    monkeypatch.setattr(installs, "OTHERS_MAX", 1)
    begun(history)
    (path,) = (history._directory).glob("*.json")
    path.write_text("?")
    ended(history, InstallState.REFUSED, 4)
    assert path.exists()


def test_other_files_are_no_tries(history):
    begun(history)
    (history._directory / "note.json").write_text("{}")
    assert len(history.all()) == 1


def test_what_went_wrong_is_told(history):
    told = installs.told_of(errors.BundleOlder("older", remedy="x"))
    assert told == {"code": "bundle.older", "message": "older"}
    assert installs.told_of(ValueError("x" * 5000))["code"] == "unexpected"
    assert len(str(installs.told_of(ValueError("x" * 5000))["message"])) == 4000
    assert msgspec.structs.fields(Install)[0].name == "format"
