"""The Python in docs/protocol.md does what it says, against a real runtime."""

import os
import re
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tritonclient.grpc
import tritonclient.utils.shared_memory as shm

from tests.runtime.access.guarded import guarded_box, image

PAGE = (Path(__file__).parents[2] / "docs" / "protocol.md").read_text("utf-8")
BLOCKS = re.findall(r"^( *)```python\n(.*?)^\1```$", PAGE, re.MULTILINE | re.DOTALL)
SHARED, TOKEN = (textwrap.dedent(body) for _, body in BLOCKS)


def test_shared_memory_is_registered(state: Path, start_runtime: Callable[..., Any]) -> None:
    runtime = start_runtime(state, "[shared_memory]\nallowed = true\n")
    with tritonclient.grpc.InferenceServerClient(runtime.address) as client:
        names: dict[str, Any] = {"client": client}
        key = f"/holdfast-client-{os.getpid()}"  # another run of the tests has an object of its own
        exec(SHARED.replace("/holdfast-client-input", key), names)
        (region,) = client.get_system_shared_memory_status().regions.values()
        shm.destroy_shared_memory_region(names["region"])
    assert (region.key, region.byte_size) == (key, 1024)


def test_a_token_is_sent(
    digits_state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with guarded_box("fast", digits_state, tmp_path) as box:
        monkeypatch.chdir(tmp_path)
        Path("site-ca.pem").write_bytes(Path(box.authority.certificate).read_bytes())
        names = {
            "tritonclient": tritonclient,
            "inputs": [image()],
            "token": box.tokens["client"],
        }
        exec(TOKEN.replace("box:8001", box.runtime.address), names)
        names["client"].close()
