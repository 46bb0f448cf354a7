"""A log of more files than a process may open."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from appliance.audit.kinds import Inference
from appliance.audit.log import AuditLog
from appliance.audit.segments import sealed_segments
from appliance.signing import SigningKey

Make = Callable[..., Inference]
Open = Callable[..., AuditLog]
DAY = 86_400.0

# Twenty more handles than it begins with are fewer than the files of its log.
FEW_HANDLES = """
import os, resource, sys
from pathlib import Path
from appliance.audit.reader import AuditReader
from appliance.audit.receipt import receipt_of
from appliance.audit.search import Sought
from appliance.audit.verify import verify
from appliance.signing import PublicKey

path, key = Path(sys.argv[1]), PublicKey.load(Path(sys.argv[2]))
taken = max(map(int, os.listdir("/proc/self/fd")))
resource.setrlimit(resource.RLIMIT_NOFILE, (taken + 24, taken + 24))
found = verify(path, key)
with AuditReader(path) as reader:
    told = [entry.sequence for entry in reader.records()]
    assert told == list(range(found.removed, found.records)), told
    assert reader.tail(9, sought=Sought(principal="nobody")) == []
    assert reader.show("request-4")[0].sequence == reader.first() + 1
    for sequence in told:
        receipt_of(reader, sequence)
print(found.records, found.removed)
"""


def test_more_files_than_a_process_may_open_are_read(
    open_log: Open, inference: Make, clock, path: Path, key: SigningKey
) -> None:
    """Forty-three files, four of them removed: the bound is on what is open, so a thousand cost no more."""
    with open_log() as log:
        for number in range(43):
            log.append([inference(number)])
            clock.advance(10 * DAY)
            assert log.seal()
        assert log.remove_expired(395) == 4
        end, first = log.size, sealed_segments(path)[4].first
    public = path.with_name("box.pub")
    key.public.save(public)
    told = subprocess.run(
        [sys.executable, "-c", FEW_HANDLES, path, public],
        check=True,
        capture_output=True,
        text=True,
    )
    assert told.stdout.split() == [str(end), str(first)]
