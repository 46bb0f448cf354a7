"""The SQL that docs/operations.md shows runs on a log that has something of everything."""

import importlib.util
import re
from pathlib import Path

import pytest
from pysqlite3 import dbapi2 as sqlite

ROOT = Path(__file__).resolve().parents[2]
QUERIES = re.findall(
    r"^```sql\n(.*?)^```$",
    (ROOT / "docs" / "operations.md").read_text("utf-8"),
    re.MULTILINE | re.DOTALL,
)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """The golden log, as any SQLite tool opens it."""
    spec = importlib.util.spec_from_file_location(
        "make_audit", ROOT / "tests" / "golden" / "make_audit.py"
    )
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    directory = tmp_path_factory.mktemp("log") / "made"
    maker.write(directory)
    connection = sqlite.connect(f"file:{directory / 'log.db'}?immutable=1", uri=True)
    yield connection
    connection.close()


def test_there_are_ten():
    assert len(QUERIES) == 10


@pytest.mark.parametrize("query", QUERIES)
def test_each_finds_something(log, query):
    assert log.execute(query.replace("REQUEST_ID", "request-1")).fetchall()
