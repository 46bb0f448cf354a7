"""What a false clock does to the age of files: nothing is removed or left growing because of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from appliance.audit.kinds import Boot, Inference
from appliance.audit.log import AuditLog
from appliance.audit.reader import AuditReader
from appliance.audit.verify import verify
from appliance.signing import SigningKey

Make = Callable[..., Inference]
Open = Callable[..., AuditLog]
DAY = 86_400.0


def test_a_clock_that_jumps_ahead_removes_nothing(open_log: Open, inference: Make, clock) -> None:
    with open_log() as log:
        log.append([inference(0)])
        assert log.seal()
        clock.wall += int(3000 * DAY * 1e9)
        log.append([inference(1)])
        assert not log.seal_due(bytes_max=1 << 30, seconds=DAY)
        assert log.seal()
        assert log.remove_expired(183) == 0
        clock.advance(184 * DAY)
        log.append([inference(2)])
        assert log.seal()
        assert log.remove_expired(183) == 2


@pytest.mark.parametrize(("times", "gone"), [(1, 0), (30, 1)])
def test_of_time_between_a_stop_and_a_start_a_week_counts(
    open_log: Open, inference: Make, clock, times: int, gone: int
) -> None:
    with open_log() as log:
        log.append([inference(0)])
        assert log.seal()
    for number in range(times):
        clock.wall += int(400 * DAY * 1e9)
        with open_log(boot_id=f"later-{number}") as log:
            log.append([Boot(release="1", config_sha256="0" * 64)])
    with open_log(boot_id="last") as log:
        assert log.seal()
        assert log.remove_expired(183) == gone


def test_a_file_s_age_outlives_a_clock_set_back(open_log: Open, inference: Make, clock) -> None:
    with open_log() as log:
        log.append([inference(0)])
        clock.wall -= int(900 * DAY * 1e9)
        log.append([inference(1)])
        clock.advance(2 * DAY)
        assert log.seal_due(bytes_max=1 << 30, seconds=DAY)
    with open_log() as log:
        assert log.seal_due(bytes_max=1 << 30, seconds=DAY)


def test_a_reader_that_stays_does_not_hold_what_was_removed(
    open_log: Open, inference: Make, clock, path: Path
) -> None:
    with open_log() as log, AuditReader(path) as reader:
        for number in range(3):
            log.append([inference(number)])
            assert [reader.at(place).sequence for place in range(log.size)] == list(range(log.size))
            clock.advance(100 * DAY)
            assert log.seal()
        walk = reader.records()
        assert next(walk).sequence == 0
        assert log.remove_expired(150) == 2
        assert reader.size() == log.size
        # Whoever is in the midst of a file reads on in it; one that was not reached is passed over.
        assert next(walk).sequence == 3
        walk.close()
        held = [
            str(link.readlink()) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()
        ]
        assert not [
            name for name in held if name.endswith("(deleted)") and str(path.parent) in name
        ]


def test_a_reader_in_the_midst_of_a_file_reads_on_in_it(
    open_log: Open, inference: Make, clock, path: Path
) -> None:
    with open_log() as log, AuditReader(path) as reader:
        log.append([inference(number) for number in range(1000)])
        clock.advance(100 * DAY)
        assert log.seal()
        walk = reader.records()
        assert next(walk).sequence == 0
        clock.advance(100 * DAY)
        log.append([inference(1000)])
        assert log.seal()
        assert log.remove_expired(90) == 1
        assert [entry.sequence for entry in walk][:999] == list(range(1, 1000))


def test_what_is_removed_before_verify_reaches_it_is_no_break(
    open_log: Open, inference: Make, clock, path: Path, key: SigningKey
) -> None:
    with open_log() as log:
        for number in range(4):
            log.append([inference(number)])
            clock.advance(100 * DAY)
            assert log.seal()

        def remove_meanwhile(done: int, _: int) -> None:
            if done == 1:
                assert log.remove_expired(150) > 1

        found = verify(path, key.public, progress=remove_meanwhile)
        assert found.removed > 1
        assert found.records == log.size
