"""Both clients against the real server in a child process."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from appliance.audit.reader import AuditReader
from appliance.errors import RequestError, RequestLimit, UnknownModel, UnknownVersion
from runtime.client import TensorDescription
from runtime.protocol import REQUEST_ID_KEY

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def client(connect, runtime):
    """A client of either kind at the module's runtime."""
    return connect(runtime.address)


def test_real_images_get_right_answers(client, held_out):
    images, labels = held_out["image"][:32], held_out["label"][:32]
    reply = client.infer("digits", {"image": images}, request_id="ours")
    assert (reply.model, reply.version, reply.request_id) == ("digits", "1", "ours")
    assert (reply.outputs["classes"][:, 0] == labels).mean() >= 0.9
    assert reply.outputs["probabilities"].dtype == np.float32
    assert isinstance(reply.outputs["labels"][0, 0], bytes)


def test_an_answer_says_where_its_record_is(client, runtime, held_out):
    reply = client.infer("digits", {"image": held_out["image"][:1]}, outputs=["labels"])
    assert list(reply.outputs) == ["labels"]
    assert reply.receipt[REQUEST_ID_KEY] == reply.request_id
    with AuditReader(runtime.state / "audit" / "log.db") as reader:
        (entry,) = reader.show(reply.request_id)
    assert entry.record.model == "digits"


def test_a_model_is_described(client):
    found = client.metadata("digits")
    assert found.name == "digits"
    assert found.versions == ("1",)
    assert found.inputs == (
        TensorDescription(name="image", datatype="UINT8", shape=(-1, -1, -1, 1)),
    )
    assert [item.name for item in found.outputs] == [
        "logits",
        "probabilities",
        "classes",
        "labels",
    ]


def test_readiness(client):
    assert client.live()
    assert client.ready()
    assert client.ready("digits")
    assert client.ready("digits", "1")
    assert not client.ready("digits", "2")
    assert not client.ready("nothing")


@pytest.mark.parametrize(
    ("asked", "rows", "dtype", "kind"),
    [
        (("nothing", ""), 1, np.uint8, UnknownModel),
        (("digits", "9"), 1, np.uint8, UnknownVersion),
        (("digits", ""), 1, np.float32, RequestError),
        (("digits", ""), 33, np.uint8, RequestLimit),
    ],
)
def test_errors_come_back_as_they_were_raised(client, asked, rows, dtype, kind):
    model, version = asked
    with pytest.raises(kind) as caught:
        client.infer(model, {"image": np.zeros((rows, 8, 8, 1), dtype)}, version=version)
    assert type(caught.value) is kind
    assert caught.value.remedy


def test_the_example_reads_digits(runtime):
    done = subprocess.run(
        [sys.executable, ROOT / "examples" / "client.py", runtime.address],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^(?:.+ read as .+\n){8}8 of 8 right, recorded as .+\n$", done.stdout)
