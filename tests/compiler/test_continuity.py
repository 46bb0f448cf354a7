"""A new bundle beside the versions before it: what is refused, what is warned of, in which words."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.manifest import Limits, Manifest, Precision, Provenance, Tolerances
from appliance.recipe import Cast, InputRecipe, Recipe
from appliance.tensors import AxisRange, DataType, Interface, TensorSpec
from compiler.continuity import Known, changes, compare

replace = msgspec.structs.replace
X = TensorSpec(name="x", datatype=DataType.FP32, shape=(4,))
Y = TensorSpec(name="y", datatype=DataType.FP32, shape=(3,))
SERVED = Interface(inputs=(X,), outputs=(Y,), batch_max=8)
LABELS = ("cat", "dog", "cow")


def manifest(*, source="1", sample="2", data="3", retrained=False, **changes) -> Manifest:
    plain = Manifest(
        model="m",
        release_notes="why",
        served=SERVED,
        engine=SERVED,
        recipe=Recipe(labels=LABELS),
        precision=Precision.FP32,
        tolerances=Tolerances(),
        acceptance=(),
        limits=Limits(),
        disturbances=(),
        calibration=None,
        fallback=True,
        provenance=Provenance(
            data_sha256=data * 64, training_code="r", frameworks={}, retrained=retrained
        ),
        source_sha256=source * 64,
        sample_sha256=sample * 64,
        files=(),
    )
    return replace(plain, **changes)


def known(*manifests) -> list[Known]:
    return [Known(number=number, manifest=item) for number, item in enumerate(manifests, 1)]


def told(new, *before, active=None) -> list[tuple[str, bool]]:
    """Each finding's text and whether it is refused."""
    return [(item.text, bool(item.remedy)) for item in compare(new, known(*before), active)]


def test_the_first_version_is_compared_with_nothing():
    assert compare(manifest(), []) == ()


def test_another_model_on_other_data_is_in_order():
    new = manifest(source="a", sample="b", data="c", retrained=True)
    assert told(new, manifest()) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"inputs": (replace(X, name="z"),)}, "input 'x' is called 'z'"),
        ({"inputs": (replace(X, datatype=DataType.FP64),)}, "input 'x' is FP64, not FP32"),
        ({"inputs": (replace(X, shape=(5,)),)}, "input 'x' has shape [5], not [4]"),
        ({"inputs": (X, replace(X, name="z", shape=()))}, "input 'z' is new"),
        ({"outputs": (replace(Y, name="z", shape=(9,)),)}, "output 'y' is gone"),
        ({"batch_max": 0}, "requests have no rows"),
        ({"batch_max": 4}, "a request may have 4 rows, not 8"),
    ],
)
def test_a_changed_interface_is_refused_by_name_unless_the_spec_says_so(change, text):
    served = replace(SERVED, **change)
    new = manifest(source="a", sample="b", served=served)
    assert told(new, manifest()) == [(f"{text}, unlike in version 1, the newest here", True)]
    meant = replace(new, interface_changes=True)
    assert told(meant, manifest()) == [(f"{text}, unlike in version 1, the newest here", False)]


@pytest.mark.parametrize(
    ("was", "is_now", "fewer"),
    [
        (None, AxisRange(min=1, opt=2, max=9), True),
        (AxisRange(min=1, opt=2, max=9), None, False),
        (AxisRange(min=2, opt=2, max=9), AxisRange(min=1, opt=2, max=10), False),
        (AxisRange(min=2, opt=2, max=9), AxisRange(min=3, opt=4, max=9), True),
        (AxisRange(min=2, opt=2, max=9), AxisRange(min=2, opt=4, max=8), True),
        (AxisRange(min=4, opt=4, max=8, step=2), AxisRange(min=4, opt=4, max=8, step=4), True),
        (AxisRange(min=4, opt=4, max=8, step=4), AxisRange(min=2, opt=4, max=8, step=2), False),
    ],
)
def test_lengths_that_are_no_longer_taken_are_told(was, is_now, fewer):
    before, after = (
        replace(SERVED, inputs=(replace(X, shape=(-1,), ranges=(given,) if given else ()),))
        for given in (was, is_now)
    )
    assert any("fewer lengths of axis 0" in text for text in changes(before, after)) is fewer


def test_an_output_more_and_more_rows_break_no_client():
    served = replace(SERVED, outputs=(Y, replace(Y, name="z")), batch_max=16)
    assert list(changes(SERVED, served)) == []


def test_the_version_that_serves_is_compared_where_it_is_known():
    changed = replace(SERVED, outputs=(replace(Y, shape=(9,)),))
    old, newest = manifest(source="a"), manifest(source="b", served=changed)
    new = manifest(source="c", sample="c", served=changed)
    ((text, refused),) = told(new, old, newest, active=1)
    assert refused
    assert text == "output 'y' has shape [9], not [3], unlike in version 1, which serves"
    assert told(new, old, newest, active=2) == []
    assert told(new, old, newest) == []


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        (("cat", "cow", "dog"), "another order: class 1 is 'cow', not 'dog'"),
        (("cat", "dog", "hen"), "1 are new ['hen'], 1 are gone ['cow']"),
        ((), "there are no labels"),
    ],
)
def test_changed_labels_are_refused(labels, text):
    new = manifest(source="a", sample="b", recipe=Recipe(labels=labels))
    ((found, refused),) = told(new, manifest())
    assert refused
    assert text in found


def test_the_same_model_under_a_new_number_is_a_warning():
    ((text, refused),) = told(manifest(), manifest(source="9", sample="9"), manifest())
    assert (text, refused) == ("model and recipe are those of version 2", False)
    raw = InputRecipe(feeds="x", accepts="raw", raw=X, steps=(Cast(),))
    assert told(manifest(recipe=Recipe(labels=LABELS, inputs=(raw,))), manifest()) == []


def test_retrained_and_the_same_model_is_refused():
    new = manifest(sample="b", data="c", retrained=True)
    assert told(new, manifest()) == [
        ("it says `retrained`, yet its model is that of version 1", True)
    ]


def test_retrained_on_the_same_data_is_refused():
    new = manifest(source="a", sample="b", retrained=True)
    assert told(new, manifest(), manifest(data="9", sample="9")) == [
        ("it says `retrained`, yet its training data is that of version 1", True)
    ]


def test_retrained_with_the_same_sample_is_a_warning():
    new = manifest(source="a", data="c", retrained=True)
    assert told(new, manifest()) == [
        ("it says `retrained`, yet its sample is that of version 1", False)
    ]


@pytest.mark.parametrize("retrained", [True, False])
def test_a_sample_older_than_the_version_before(retrained):
    """Refused when the bundle itself says that it is newer."""
    new = manifest(source="a", data="c", retrained=retrained)
    ((text, refused),) = told(new, manifest(), manifest(sample="9", source="9"))
    assert text == "its sample is that of version 1, older than that of version 2"
    assert refused is retrained


names = st.sampled_from("abcd")
tensors = st.lists(
    st.builds(
        TensorSpec,
        name=names,
        datatype=st.sampled_from([DataType.FP32, DataType.INT64]),
        shape=st.sampled_from([(), (3,), (-1, 2)]),
    ),
    unique_by=lambda spec: spec.name,
    min_size=1,
    max_size=3,
).map(tuple)
interfaces = st.builds(
    Interface, inputs=tensors, outputs=tensors, batch_max=st.sampled_from([0, 1, 8])
)


@given(was=interfaces, is_now=interfaces)
def test_no_change_of_the_interface_goes_unnoticed(was, is_now):
    """Nothing is told exactly when every request and every reader of `was` still works."""

    def by_name(specs):
        return {spec.name: (spec.datatype, spec.shape) for spec in specs}

    works = (
        by_name(was.inputs) == by_name(is_now.inputs)
        and by_name(was.outputs).items() <= by_name(is_now.outputs).items()
        and bool(was.batch_max) == bool(is_now.batch_max)
        and was.batch_max <= is_now.batch_max
    )
    assert (not list(changes(was, is_now))) == works


def test_changes_are_told_in_the_order_of_the_tensors():
    names = [f"t{number}" for number in range(20)]
    was = replace(SERVED, inputs=tuple(replace(X, name=name) for name in names))
    is_now = replace(SERVED, inputs=tuple(replace(X, name=name, shape=(5,)) for name in names))
    told = [text.split("'")[1] for text in changes(was, is_now)]
    assert told == names
