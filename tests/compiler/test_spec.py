"""The model spec's defaults and refusals."""

import pytest

from appliance.errors import SpecError
from appliance.manifest import Precision, Tolerances
from appliance.recipe import Accepts, Softmax
from compiler.spec import read_spec

SMALLEST = """
[model]
name = "m"
release_notes = "why"
[data]
sample = "s.npz"
held_out = "h.npz"
[provenance]
data_sha256 = "{digest}"
training_code = "r1"
frameworks = {{}}
""".format(digest="a" * 64)


@pytest.fixture
def read(tmp_path):
    """Reads a spec from its text."""

    def read(text: str):
        path = tmp_path / "m.toml"
        path.write_text(text)
        return read_spec(path)

    return read


def test_what_is_left_out_has_defaults(read):
    spec = read(SMALLEST)
    assert spec.model.batch_max is None
    assert spec.model.precision is Precision.FP32
    assert spec.data.golden_rows == 16
    assert spec.acceptance == ()
    assert spec.tolerance == Tolerances()
    assert not spec.model.interface_changes
    assert spec.full_recipe().inputs == ()


def test_labels_travel_in_the_recipe(workshop):
    spec = read_spec(workshop.spec)
    recipe = spec.full_recipe()
    assert recipe.labels == ("a", "b", "c", "d")
    assert recipe.inputs[0].accepts is Accepts.RAW
    assert isinstance(recipe.after[0], Softmax)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name = "m"', 'name = "../m"', "$.model.name"),
        ('release_notes = "why"', "", "release_notes"),
        ('release_notes = "why"', 'release_notes = ""', "release_notes"),
        ('release_notes = "why"', 'release_notes = "why"\nbatch_max = -1', "batch_max"),
        ('release_notes = "why"', 'release_notes = "why"\nprecision = "fp8"', "precision"),
        ('held_out = "h.npz"', "", "held_out"),
        ('held_out = "h.npz"', 'held_out = "h.npz"\ngolden_rows = 0', "golden_rows"),
        ("[provenance]", "[provenence]", "provenence"),
        ("a" * 64, "a" * 63, "data_sha256"),
        ("[provenance]", "[tolerance]\nabsolute = -1.0\n[provenance]", "absolute"),
        (
            "[provenance]",
            '[[acceptance]]\nmetric = "luck"\noutput = "y"\nminimum = 0.5\n[provenance]',
            "metric",
        ),
        ("[provenance]", '[[recipe.after]]\nstep = "soft_max"\n[provenance]', "soft_max"),
    ],
)
def test_a_wrong_value_is_refused_with_its_place(read, old, new, told):
    assert old in SMALLEST
    with pytest.raises(SpecError) as refused:
        read(SMALLEST.replace(old, new))
    assert told in str(refused.value)
    assert refused.value.code == "spec.invalid"


def test_a_missing_spec_is_refused(tmp_path):
    with pytest.raises(SpecError):
        read_spec(tmp_path / "none.toml")
