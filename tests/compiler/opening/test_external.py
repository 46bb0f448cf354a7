"""Tensors in other files: honest ones are folded in, every trick with their references is refused."""

import hashlib
import os
import socket
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, external_data_helper, numpy_helper

from appliance.errors import (
    BundleContent,
    SourceError,
    SourceFormat,
    SourceLimit,
    SourceUnsupported,
)
from compiler.opening.source import Limits, open_sealed, open_source
from compiler.pack import pack


@pytest.fixture
def saved(tmp_path, make_onnx):
    """Saves the tiny model with its weights in another file: saved() or saved("inner/w.bin")."""

    def saved(location: str = "weights.bin", **keys: str) -> Path:
        model = make_onnx()
        tensor = model.graph.initializer[0]
        data = tensor.raw_data
        outside = tmp_path / "model" / "weights.bin"
        outside.parent.mkdir(exist_ok=True)
        outside.write_bytes(b"front" + data)
        entries = {"location": location, "offset": "5", "length": str(len(data))} | keys
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in entries.items():
            tensor.external_data.add(key=key, value=value)
        path = tmp_path / "model" / "model.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return saved


def refused(path: Path, error: type[SourceError] = SourceFormat) -> str:
    with pytest.raises(error) as caught:
        open_source(path)
    assert caught.value.remedy
    return str(caught.value)


def test_weights_beside_the_model_are_folded_in(saved, make_onnx):
    path = saved()
    source = open_source(path)
    assert source.data == source.model.SerializeToString(deterministic=True)
    tensor = source.model.graph.initializer[0]
    assert tensor.raw_data == make_onnx().graph.initializer[0].raw_data
    assert not tensor.external_data
    assert not tensor.HasField("data_location")
    assert source.notes == ("tensors were read from 'weights.bin'",)
    assert source.received is None


def test_the_digest_tells_of_every_file(saved):
    path = saved()
    model, weights = (
        hashlib.sha256((path.parent / name).read_bytes()).hexdigest()
        for name in ("model.onnx", "weights.bin")
    )
    lines = f"{model}  \n{weights}  weights.bin\n".encode()
    assert open_source(path).sha256 == hashlib.sha256(lines).hexdigest()
    first = open_source(path).sha256
    (path.parent / "weights.bin").write_bytes(
        b"other" + (path.parent / "weights.bin").read_bytes()[5:]
    )
    assert open_source(path).sha256 != first


def test_what_onnx_itself_saves_is_opened(tmp_path, make_onnx):
    model = make_onnx(constants={"w": np.ones((3, 4), np.float32)})
    onnx.save(
        model,
        tmp_path / "m.onnx",
        save_as_external_data=True,
        size_threshold=0,
        location="m.onnx.data",
    )
    opened = open_source(tmp_path / "m.onnx").model
    np.testing.assert_array_equal(numpy_helper.to_array(opened.graph.initializer[0]), 1.0)


def test_a_file_in_a_directory_below_is_taken(saved):
    path = saved("inner/w.bin")
    (path.parent / "inner").mkdir()
    (path.parent / "weights.bin").rename(path.parent / "inner" / "w.bin")
    assert open_source(path).model.graph.initializer[0].raw_data


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"location": "/etc/passwd"}, "not below the model's directory"),
        ({"location": "../model/weights.bin"}, "not below the model's directory"),
        ({"location": "inner/../../model/weights.bin"}, "not below the model's directory"),
        ({"location": "..\\weights.bin"}, "not below the model's directory"),
        ({"location": "./weights.bin"}, "not below the model's directory"),
        ({"location": ""}, "not below the model's directory"),
        ({"location": "weights.bin\0.txt"}, "not below the model's directory"),
        ({"location": "file:///etc/passwd"}, "not below the model's directory"),
        # The mark by which ONNX Runtime takes an offset for an address in its own memory.
        ({"location": "*/_ORT_MEM_ADDR_/*"}, "cannot be opened"),
        ({"location": "missing.bin"}, "No such file"),
        ({"offset": "9"}, "refers to bytes 9 to 57 of 'weights.bin', which has 53"),
        ({"offset": "999999999999999999"}, "which has 53"),
        ({"offset": "-1"}, "the offset '-1', which is no number of bytes"),
        ({"offset": "0x5"}, "no number of bytes"),
        ({"offset": "5.0"}, "no number of bytes"),
        ({"offset": " 5"}, "no number of bytes"),
        ({"offset": "\N{ARABIC-INDIC DIGIT FIVE}"}, "no number of bytes"),
        ({"length": "-48"}, "the length '-48'"),
        ({"length": "9" * 30}, "no number of bytes"),
        ({"length": "1000000000000"}, "which has 53"),
        ({"length": "47"}, "declares 48 bytes and refers to 47"),
        ({"checksum": "0" * 40}, "checksum is another"),
        # CVE-2026-34445: keys that become attributes of the object which reads them.
        ({"__class__": "x"}, "the key '__class__', which means nothing"),
        ({"basepath": "/etc"}, "the key 'basepath', which means nothing"),
        ({"Location": "/etc/passwd"}, "the key 'Location'"),
    ],
)
def test_each_trick_with_the_keys_is_refused(saved, keys, told):
    assert told in refused(saved(**keys))


def test_a_key_given_twice_is_refused(saved):
    path = saved()
    model = onnx.ModelProto.FromString(path.read_bytes())
    model.graph.initializer[0].external_data.add(key="location", value="/etc/passwd")
    path.write_bytes(model.SerializeToString())
    assert "'location', twice" in refused(path)


def test_a_good_checksum_and_a_missing_length_are_taken(saved):
    data = (saved().parent / "weights.bin").read_bytes()
    path = saved(checksum=hashlib.sha1(data, usedforsecurity=False).hexdigest())
    model = open_source(path).model
    path.write_bytes(path.read_bytes())
    loose = onnx.ModelProto.FromString(path.read_bytes())
    del loose.graph.initializer[0].external_data[2]
    path.write_bytes(loose.SerializeToString())
    assert open_source(path).model == model


def replace_by(kind: str, path: Path) -> None:
    """Put something else where the weights are."""
    kept = path.with_suffix(".kept")
    path.rename(kept)
    if kind == "link":
        path.symlink_to(kept)
    elif kind == "hard link":
        os.link(kept, path)
    elif kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listener:
            here = Path.cwd()
            os.chdir(path.parent)  # a socket's address is short
            try:
                listener.bind(path.name)
            finally:
                os.chdir(here)
    elif kind == "device":
        path.symlink_to("/dev/zero")


@pytest.mark.parametrize("kind", ["link", "hard link", "directory", "pipe", "socket", "device"])
def test_only_a_plain_file_is_read(saved, kind):
    path = saved()
    replace_by(kind, path.parent / "weights.bin")
    assert "'weights.bin'" in refused(path)


def test_a_real_device_is_not_read(saved):
    path = saved()
    (path.parent / "weights.bin").unlink()
    try:
        os.mknod(path.parent / "weights.bin", 0o20666, os.makedev(1, 5))
    except PermissionError:
        pytest.skip("only root makes devices")
    told = refused(path)
    assert "not a regular file" in told or "Permission" in told  # mounted without devices


def test_a_link_among_the_directories_is_not_followed(saved, tmp_path):
    path = saved("inner/weights.bin")
    (tmp_path / "elsewhere").mkdir()
    (path.parent / "weights.bin").rename(tmp_path / "elsewhere" / "weights.bin")
    (path.parent / "inner").symlink_to(tmp_path / "elsewhere")
    assert "cannot be opened" in refused(path)


def test_the_limit_holds_for_all_files_together(saved):
    path = saved()
    with pytest.raises(SourceLimit, match="have 48 bytes"):
        open_source(path, Limits(bytes_max=path.stat().st_size + 40))
    with (path.parent / "weights.bin").open("ab") as file:
        file.truncate(10**6)
    with pytest.raises(SourceLimit, match="has 1000000 bytes"):
        open_source(path, Limits(bytes_max=path.stat().st_size + 1000))


def test_a_huge_claim_is_refused_before_the_file_is_opened(saved):
    path = saved()
    model = onnx.ModelProto.FromString(path.read_bytes())
    del model.graph.initializer[0].dims[:]
    model.graph.initializer[0].dims.extend([10**6, 10**6])
    path.write_bytes(model.SerializeToString())
    (path.parent / "weights.bin").unlink()
    assert "4000000000000 bytes" in refused(path, SourceLimit)


def test_data_inside_and_outside_at_once_is_refused(saved):
    path = saved()
    model = onnx.ModelProto.FromString(path.read_bytes())
    model.graph.initializer[0].raw_data = bytes(48)
    path.write_bytes(model.SerializeToString())
    assert "as well" in refused(path)


def test_strings_and_unmarked_references_are_refused(saved):
    path = saved()
    strings = onnx.ModelProto.FromString(path.read_bytes())
    strings.graph.initializer[0].data_type = TensorProto.STRING
    path.write_bytes(strings.SerializeToString())
    assert "strings" in refused(path)
    path = saved()
    unmarked = onnx.ModelProto.FromString(path.read_bytes())
    unmarked.graph.initializer[0].ClearField("data_location")
    path.write_bytes(unmarked.SerializeToString())
    assert "as well" in refused(path)


def test_a_reference_is_found_wherever_it_hides(tmp_path, make_onnx):
    """In an attribute, in a branch, in a function, in a sparse tensor."""
    outside = numpy_helper.from_array(np.zeros((3, 4), np.float32), "t")
    external_data_helper.set_external_data(outside, location="t.bin", offset=0, length=48)
    outside.ClearField("raw_data")
    constant = onnx.helper.make_node("Constant", [], ["c"], value=outside)
    branch = onnx.GraphProto(node=[constant])
    inside_if = onnx.helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    function = onnx.helper.make_function("own", "F", [], ["c"], [constant], [])
    in_function = make_onnx()
    in_function.functions.append(function)
    sparse = make_onnx()
    sparse.graph.sparse_initializer.add(values=outside, dims=[3, 4])
    for model in (make_onnx([constant]), make_onnx([inside_if]), in_function, sparse):
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        assert "No such file" in refused(tmp_path / "m.onnx")
        with pytest.raises(SourceUnsupported, match="another file"):
            open_sealed(tmp_path / "m.onnx")


def test_a_sealed_model_never_refers_to_another_file(saved):
    path = saved()
    with pytest.raises(SourceUnsupported, match="'w' is kept in another file"):
        open_sealed(path)


def test_a_model_in_two_files_is_packed_as_one(workshop, saved):
    """By the child too, which may open nothing but the model and what lies beside it."""
    workshop.model = saved()
    packed = pack(workshop.model, workshop.spec, workshop.bundle, key=workshop.key)
    assert packed.notes == ("tensors were read from 'weights.bin'",)
    assert packed.manifest.source_sha256 == open_source(workshop.model).sha256
    _, contents = workshop.contents()
    assert contents["model.onnx"] == open_source(workshop.model).data


def test_a_bundle_whose_model_refers_to_another_file_is_not_built(workshop, saved):
    workshop.pack()
    workshop.resign(files={"model.onnx": saved().read_bytes()})
    with pytest.raises(BundleContent, match="'w' is kept in another file"):
        workshop.build()
