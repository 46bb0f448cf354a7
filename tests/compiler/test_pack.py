"""Model and spec to a bundle: what is sealed, and everything that is refused before it is written."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from appliance import errors
from appliance.bundle import check_files, extract, unverified_manifest, verified_manifest
from appliance.golden import Golden
from appliance.profiles import Profile
from appliance.tables import from_json
from compiler.rows.held_out import HeldOut


def contents(workshop, directory):
    """The files of the written bundle, in `directory`."""
    with workshop.bundle.open("rb") as file:
        _, manifest = unverified_manifest(file)
        extract(file, manifest, directory)
    return manifest


def test_a_bundle_holds_what_a_build_needs(workshop, tmp_path, make_rows, classes_of):
    packed = workshop.pack()
    manifest = contents(workshop, tmp_path / "out")
    assert manifest == packed.manifest
    assert (tmp_path / "out" / "model.onnx").read_bytes() == workshop.model.read_bytes()
    assert [spec.name for spec in manifest.served.inputs] == ["person"]
    assert [spec.name for spec in manifest.served.outputs] == [
        "scores",
        "probabilities",
        "classes",
        "labels",
    ]
    assert manifest.engine.batch_max == 8

    golden = Golden.load(tmp_path / "out" / "golden.npz")
    np.testing.assert_array_equal(golden.inputs["person"], make_rows(40)[:5])
    np.testing.assert_array_equal(
        golden.outputs["scores"].argmax(axis=1), classes_of(make_rows(40)[:5])
    )
    held_out = HeldOut.load(tmp_path / "out" / "held_out.npz")
    assert held_out.rows == 60
    np.testing.assert_array_equal(held_out.truth.labels, classes_of(make_rows(60)))
    profile = from_json(
        (tmp_path / "out" / "profile.json").read_bytes(), Profile, errors.StoreError, where="x"
    )
    assert profile.rows == 60
    assert packed.reached[0].value == 1.0


def test_equal_inputs_give_equal_bytes(workshop):
    first = workshop.pack()
    data = workshop.bundle.read_bytes()
    workshop.bundle.unlink()
    assert workshop.pack().sha256 == first.sha256
    assert workshop.bundle.read_bytes() == data


def test_a_signed_bundle_is_trusted_where_its_key_is(workshop):
    packed = workshop.pack()
    assert packed.signer == workshop.key.public.key_id
    with workshop.bundle.open("rb") as file:
        _, manifest = verified_manifest(file, {workshop.key.public.raw: workshop.key.public})
        check_files(file, manifest)


def test_without_a_key_the_bundle_is_unsigned(workshop):
    assert workshop.pack(signed=False).signer is None
    with workshop.bundle.open("rb") as file, pytest.raises(errors.BundleUnsigned):
        verified_manifest(file, {})


def test_prepared_tensors_are_sealed_where_clients_send_them(workshop, tmp_path, make_rows):
    workshop.change('accepts = "raw"', 'accepts = "prepared"')
    workshop.pack()
    manifest = contents(workshop, tmp_path / "out")
    assert [spec.name for spec in manifest.served.inputs] == ["x"]
    golden = Golden.load(tmp_path / "out" / "golden.npz")
    np.testing.assert_allclose(
        golden.inputs["x"][:, 0], (make_rows(40)[:5, 0] - 1.0) / 2.0, rtol=1e-6
    )
    assert set(HeldOut.load(tmp_path / "out" / "held_out.npz").inputs) == {"x"}


def refused(workshop, error, **options):
    """The error that pack raises; nothing is written."""
    with pytest.raises(error) as caught:
        workshop.pack(**options)
    assert type(caught.value) is error
    assert not workshop.bundle.exists()
    return caught.value


def test_a_reference_below_the_threshold_is_refused_with_its_value(workshop, make_rows, classes_of):
    labels = classes_of(make_rows(60))
    labels[:30] = (labels[:30] + 1) % 4
    workshop.save_rows("held_out", person=make_rows(60), label=labels)
    error = refused(workshop, errors.ThresholdMissed)
    told = "accuracy of 'scores' on 60 held-out rows is 0.5000, which misses at least 0.9"
    assert told in str(error)
    assert error.code == "proof.threshold"


def test_rows_that_do_not_fit_are_told_with_what_was_expected(workshop, make_rows):
    cases = [
        ("sample", {"other": make_rows(4)}, "holds ['other']"),
        ("sample", {"person": make_rows(40).astype(np.float64)}, "float64"),
        ("sample", {"person": make_rows(40)[:, :2]}, "[40, 2]"),
        ("sample", {"person": np.float32(1.0)}, "[]"),
        ("sample", {"person": make_rows(40)[:0]}, "rows"),
        ("sample", {"person": make_rows(40)[:4]}, "golden_rows is 5"),
        ("held_out", {"person": make_rows(60)}, "true classes"),
        ("held_out", {"person": make_rows(60), "label": np.zeros(59, np.int64)}, "59"),
        ("held_out", {"person": make_rows(60), "label": np.zeros(60)}, "'label' is float64"),
        ("held_out", {"person": make_rows(60), "label": np.full(60, 4)}, "from 4 to 4"),
        ("held_out", {"person": make_rows(60), "label": np.full(60, -1)}, "from -1 to -1"),
    ]
    for name, arrays, told in cases:
        kept = (workshop.directory / f"{name}.npz").read_bytes()
        workshop.save_rows(name, **arrays)
        assert told in str(refused(workshop, errors.SpecError)), arrays
        (workshop.directory / f"{name}.npz").write_bytes(kept)
    workshop.pack()


def test_a_data_file_that_is_missing_or_damaged_is_refused(workshop):
    (workshop.directory / "sample.npz").write_bytes(b"PK\x03\x04 junk")
    assert "sample.npz" in str(refused(workshop, errors.SpecError))
    (workshop.directory / "sample.npz").unlink()
    assert "sample.npz" in str(refused(workshop, errors.SpecError))


def test_a_data_file_over_the_limit_is_refused(workshop, monkeypatch):
    monkeypatch.setattr("compiler.rows.samples.FILE_BYTES_MAX", 100)
    assert "more than 100 bytes" in str(refused(workshop, errors.SpecError))


@pytest.mark.parametrize(
    ("old", "new", "error", "told"),
    [
        ('output = "scores"\nminimum', 'output = "score"\nminimum', errors.SpecError, "score"),
        ("batch_max = 8", "batch_maxx = 8", errors.SpecError, "batch_max"),
        ('feeds = "x"', 'feeds = "z"', errors.RecipeError, "feeds z,"),
        ("shape = [3]", "shape = [4]", errors.RecipeError, "[4]"),
        ('"d"]', '"d", "e"]', errors.RecipeError, "5 labels"),
    ],
)
def test_a_spec_that_does_not_fit_the_model_is_refused(workshop, old, new, error, told):
    workshop.change(old, new)
    caught = refused(workshop, error)
    assert told in f"{caught} {caught.remedy}"


def test_a_model_that_does_not_keep_rows_is_refused(workshop, make_onnx):
    """The output's first axis is open, yet does not follow the input's."""
    nodes = [
        helper.make_node("Concat", ["x", "x"], ["twice"], axis=0),
        helper.make_node("MatMul", ["twice", "w"], ["scores"]),
    ]
    onnx.save(make_onnx(nodes, outputs={"scores": (TensorProto.FLOAT, ["n", 4])}), workshop.model)
    error = refused(workshop, errors.SourceUnsupported)
    assert "'scores' has shape [16, 4] for 8 rows" in str(error)
    assert "batch_max = 0" in error.remedy


def test_a_model_that_fails_on_the_sample_is_refused(workshop, make_onnx):
    nodes = [helper.make_node("Gather", ["x", "columns"], ["scores"], axis=1)]
    model = make_onnx(nodes, constants={"columns": np.array([0, 1, 2, 9], np.int64)})
    onnx.save(model, workshop.model)
    assert "fails on the sample" in str(refused(workshop, errors.SourceUnsupported))


def test_a_model_without_a_batch_axis_is_served_one_at_a_time(workshop, make_onnx, tmp_path):
    """Rows are then whole requests: exported for one row, fed without a recipe."""
    onnx.save(
        make_onnx(
            inputs={"x": (TensorProto.FLOAT, [1, 3])},
            outputs={"scores": (TensorProto.FLOAT, [1, 4])},
        ),
        workshop.model,
    )
    text = workshop.spec.read_text().replace("batch_max = 8\n", "")
    head, _, tail = text.partition("[[recipe.inputs]]")
    workshop.spec.write_text(head + tail[tail.index("[[recipe.after]]") :])
    rows = np.random.default_rng(1).normal(size=(20, 1, 3)).astype(np.float32)
    labels = (rows[:, 0] @ _weights(workshop)).argmax(axis=1)
    workshop.save_rows("sample", x=rows)
    workshop.save_rows("held_out", x=rows, label=labels)
    packed = workshop.pack()
    assert packed.manifest.served.batch_max == 0
    (note,) = packed.notes
    assert "every tensor's first axis is fixed at 1" in note
    assert packed.reached[0].value == 1.0
    contents(workshop, tmp_path / "out")
    assert Golden.load(tmp_path / "out" / "golden.npz").inputs["x"].shape == (5, 1, 3)
    version = workshop.build().version
    assert version.record.proof.reached[0].value == 1.0


def test_an_output_whose_length_depends_on_values_cannot_be_compared(workshop, make_onnx):
    """One request at a time, each with another number of results."""
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["scores"]),
        helper.make_node("Greater", ["x", "zero"], ["positive"]),
        helper.make_node("NonZero", ["positive"], ["found"]),
    ]
    model = make_onnx(
        nodes,
        outputs={
            "scores": (TensorProto.FLOAT, ["rows", 4]),
            "found": (TensorProto.INT64, [2, "n"]),
        },
        constants={"w": np.ones((3, 4), np.float32), "zero": np.float32([0.0])},
    )
    onnx.save(model, workshop.model)
    head = workshop.spec.read_text().partition("[[recipe.inputs]]")[0]
    workshop.spec.write_text(head.replace("batch_max = 8\n", ""))
    rows = np.random.default_rng(1).normal(size=(20, 1, 3)).astype(np.float32)
    workshop.save_rows("sample", x=rows)
    workshop.save_rows("held_out", x=rows, label=np.zeros(20, np.int64))
    workshop.change('[[acceptance]]\nmetric = "accuracy"\noutput = "scores"\nminimum = 0.9\n', "")
    assert "depends on" in str(refused(workshop, errors.SourceUnsupported))


def test_a_model_that_onnx_runtime_cannot_run_is_refused(workshop, make_onnx):
    """Valid ONNX, but ONNX Runtime has no tangent of doubles."""
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.DOUBLE),
        helper.make_node("Tan", ["wide"], ["tangent"]),
        helper.make_node("Cast", ["tangent"], ["narrow"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["narrow", "w"], ["scores"]),
    ]
    onnx.save(make_onnx(nodes), workshop.model)
    assert "cannot run the model" in str(refused(workshop, errors.SourceUnsupported))


def test_a_bundle_that_no_box_could_open_is_not_written(workshop, make_onnx):
    name = "n" * 300
    nodes = [helper.make_node("MatMul", ["x", "w"], ["scores"])]
    nodes.append(helper.make_node("Relu", ["scores"], [name]))
    kinds = {output: (TensorProto.FLOAT, ["rows", 4]) for output in ("scores", name)}
    onnx.save(make_onnx(nodes, outputs=kinds), workshop.model)
    assert "length <= 256" in str(refused(workshop, errors.SpecError))


def test_a_manifest_over_its_limit_is_not_written(workshop, monkeypatch):
    monkeypatch.setattr("compiler.pack.MANIFEST_BYTES_MAX", 1000)
    assert "over 1000" in str(refused(workshop, errors.SpecError))


@pytest.mark.parametrize("name", ["tiny.onnx", "tiny.toml", "sample.npz", "held_out.npz", "link"])
def test_a_bundle_never_replaces_what_it_is_made_from(workshop, name):
    (workshop.directory / "link").symlink_to("tiny.toml")
    workshop.bundle = workshop.directory / name
    data = workshop.bundle.read_bytes()
    with pytest.raises(errors.ConfigError, match="made from"):
        workshop.pack()
    assert workshop.bundle.read_bytes() == data


def test_a_full_disk_writes_no_bundle(workshop, monkeypatch):
    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert "No space left" in str(refused(workshop, errors.StateError))


def test_a_bundle_without_thresholds_needs_no_labels(workshop, make_rows):
    workshop.change('[[acceptance]]\nmetric = "accuracy"\noutput = "scores"\nminimum = 0.9\n', "")
    workshop.save_rows("held_out", person=make_rows(60))
    assert workshop.pack().reached == ()
    assert workshop.build().version.record.proof.reached == ()


def _weights(workshop) -> np.ndarray:
    model = onnx.load(workshop.model)
    return onnx.numpy_helper.to_array(model.graph.initializer[0])
