"""Where an explanation's rows come from: a spec and its sample, a bundle, a stored version."""

import types

import numpy as np
import pytest

from appliance.errors import BundleContent, BundleUnsigned, BundleUntrusted, KeyFileError, SpecError
from appliance.golden import Golden
from appliance.manifest import GOLDEN_FILE
from appliance.signing import SigningKey
from compiler.explain import explain
from compiler.explain.sources import bundle_sample, spec_sample, version_sample


def told(sample, row=0):
    explanation = explain(sample.recipe, sample.engine, sample.rows, row)
    return {
        item.feeds: [(stage.step, stage.array.tolist()) for stage in item.stages]
        for item in explanation.inputs
    }


def person(make_rows, row):
    return make_rows(40)[row].tolist()


def test_a_spec_needs_no_model(workshop, make_rows):
    workshop.model.unlink()
    sample = spec_sample(workshop.spec)
    sent, standardised = told(sample, 3)["x"]
    assert sent == ("sent", person(make_rows, 3))
    assert standardised[0] == "standardise"
    assert standardised[1][0] == pytest.approx((sent[1][0] - 1) / 2)
    assert standardised[1][1:] == sent[1][1:]


def test_a_spec_shows_raw_rows_where_clients_send_prepared_ones(workshop):
    workshop.change('accepts = "raw"', 'accepts = "prepared"')
    assert [step for step, _ in told(spec_sample(workshop.spec))["x"]] == ["sent", "standardise"]


def test_inputs_without_a_recipe_are_the_samples_other_arrays(workshop, make_rows):
    workshop.save_rows(
        "sample", person=make_rows(40), mask=np.ones((40, 2), np.int64), label=np.arange(40)
    )
    explained = told(spec_sample(workshop.spec))
    assert list(explained) == ["x", "mask"]
    assert explained["mask"] == [("sent", [1, 1])]


def test_a_sample_that_does_not_fit_is_refused(workshop):
    workshop.save_rows("sample", someone=np.zeros((3, 3), np.float32))
    with pytest.raises(SpecError, match="person"):
        spec_sample(workshop.spec)


def test_golden_rows_of_a_bundle(workshop, make_rows):
    workshop.pack()
    sample = bundle_sample(workshop.bundle, workshop.config.state.trust)
    assert len(sample.rows["person"]) == 5
    assert told(sample, 4)["x"][0] == ("sent", person(make_rows, 4))


def test_a_bundle_is_verified_before_it_is_read(workshop):
    trust = workshop.config.state.trust
    workshop.pack(signed=False)
    with pytest.raises(BundleUnsigned):
        bundle_sample(workshop.bundle, trust)
    workshop.pack()
    workshop.resign(key=SigningKey.generate())
    with pytest.raises(BundleUntrusted):
        bundle_sample(workshop.bundle, trust)
    (trust / "engineer.pub").unlink()
    with pytest.raises(KeyFileError):
        bundle_sample(workshop.bundle, trust)


def test_golden_rows_that_contradict_the_manifest(workshop):
    workshop.pack()
    _, files = workshop.contents()
    golden = Golden(inputs={"person": np.zeros((5, 2), np.float32)}, outputs={})
    workshop.resign(files=files | {GOLDEN_FILE: golden.to_bytes()})
    with pytest.raises(BundleContent, match="'person'"):
        bundle_sample(workshop.bundle, workshop.config.state.trust)


def test_golden_rows_of_a_version(workshop, make_rows, tmp_path):
    workshop.pack()
    manifest, files = workshop.contents()
    (tmp_path / GOLDEN_FILE).write_bytes(files[GOLDEN_FILE])
    stored = types.SimpleNamespace(manifest=manifest, directory=tmp_path)
    assert told(version_sample(stored), 2)["x"][0] == ("sent", person(make_rows, 2))
