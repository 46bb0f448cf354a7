"""The contract's own modules are found beside the tests, as the scripts find them."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
