"""What a bundle says: canonical bytes, and what it may not say."""

import msgspec
import pytest

from appliance.errors import BundleError
from appliance.manifest import Manifest, recipe_sha256
from appliance.recipe import Recipe
from appliance.tables import canonical_json, from_json


def test_a_manifest_survives_its_bytes(manifest):
    data = canonical_json(manifest)
    assert from_json(data, Manifest, BundleError, where="x") == manifest
    assert canonical_json(from_json(data, Manifest, BundleError, where="x")) == data


def test_the_recipe_has_a_digest_of_its_own(manifest):
    other = msgspec.structs.replace(manifest, recipe=Recipe(labels=("a",)))
    assert recipe_sha256(other) != recipe_sha256(manifest)
    renamed = msgspec.structs.replace(manifest, model="other")
    assert recipe_sha256(renamed) == recipe_sha256(manifest)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"model":"tiny"', b'"model":"../tiny"'),
        (b'"model":"tiny"', b'"model":""'),
        (b'"release_notes":"first"', b'"release_notes":""'),
        (b'"format":1', b'"format":2'),
        (b'"minimum":0.9', b'"minimum":1.5'),
        (b'"absolute":0.0001', b'"absolute":1e39'),
        (b'"relative":0.001', b'"relative":1e308'),
        (b'"precision":"fp32"', b'"precision":"fp31"'),
        (b'"bytes":450', b'"bytes":-1'),
        (b'"training_code":"r1"', b'"training_code":"r1","extra":1'),
        (b'"data_sha256":"0', b'"data_sha256":"x'),
    ],
)
def test_a_wrong_manifest_is_refused(manifest, old, new):
    data = canonical_json(manifest)
    assert old in data
    with pytest.raises(BundleError):
        from_json(data.replace(old, new), Manifest, BundleError, where="x")
