"""The profile under which `make fuzz` runs these tests."""

from datetime import timedelta
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis.database import DirectoryBasedExampleDatabase

EXAMPLES = 600  # of each property in a round; a round takes a minute or two
KEPT = Path(__file__).parents[2] / "build" / "fuzz" / "examples"

settings.register_profile(
    "fuzz",
    max_examples=EXAMPLES,
    deadline=timedelta(seconds=5),  # of one case
    database=DirectoryBasedExampleDatabase(KEPT),
    print_blob=True,
    suppress_health_check=list(HealthCheck),
)
