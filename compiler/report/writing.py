"""The report's two files beside a version's engine.

Knows: their names and what is in them. Rules: both are listed in the version's record with their digests, as
every file of a version is. Leaves to others: filing the version (`appliance.store`).
"""

from pathlib import Path

from appliance.bundle import entry
from appliance.files import write_file
from appliance.manifest import FileEntry, Manifest
from appliance.store import VersionRecord
from appliance.tables import canonical_json
from compiler.report.page import page
from compiler.report.text import report_values

REPORT_JSON, REPORT_HTML = "report.json", "report.html"


def write_report(
    directory: Path, manifest: Manifest, record: VersionRecord, *, sheet: bytes | None = None
) -> tuple[FileEntry, FileEntry]:
    """Write report.json and report.html into the staged version `directory`; return their entries.

    `record` is the version's, without these two files. sheet: a PNG, see `page`. Raises StateError.
    """
    values = canonical_json(report_values(manifest, record))
    html = page(manifest, record, sheet=sheet).encode()
    for name, data in ((REPORT_JSON, values), (REPORT_HTML, html)):
        write_file(directory / name, data)
    return entry(REPORT_JSON, values), entry(REPORT_HTML, html)
