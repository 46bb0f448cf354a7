"""The bill of materials in a bundle: CycloneDX 1.6, for whoever keeps track of models.

Knows: how a model, its data, the frameworks that trained it and what the reference reached read there
(ECMA-424, CycloneDX 1.6 JSON: machine-learning-model with its model card). Rules: equal content gives equal
bytes: no time of writing, and a serial number that follows from the content. Leaves to others: the
manifest, which is what a box believes.
"""

import uuid
from collections.abc import Iterable
from typing import Any

from appliance.manifest import MODEL_FILE, Manifest
from appliance.proof import Reached
from appliance.tables import canonical_json
from appliance.tensors import Interface, TensorSpec
from appliance.version import release

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "holdfast:bom")
_MODEL, _SOURCE, _DATA, _SAMPLE = "model", "source", "training-data", "sample"


def bill_of_materials(manifest: Manifest, reached: Iterable[Reached]) -> bytes:
    """The BOM of the bundle that says `manifest`, without the BOM's own line among its files."""
    frameworks = sorted(manifest.provenance.frameworks.items())
    parts = [
        _data(_SOURCE, "the ONNX file as it was received", manifest.source_sha256, "source-code"),
        _data(_DATA, "what it was trained on", manifest.provenance.data_sha256, "dataset"),
        _data(_SAMPLE, "the sample that it is proven by", manifest.sample_sha256, "dataset"),
        *(_framework(name, version) for name, version in frameworks),
    ]
    body = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "tools": {
                "components": [{"type": "application", "name": "holdfast", "version": release()}]
            },
            "component": _model(manifest, reached),
        },
        "components": parts,
        "dependencies": [
            {"ref": _MODEL, "dependsOn": [part["bom-ref"] for part in parts]},
            *({"ref": part["bom-ref"]} for part in parts),
        ],
    }
    serial = uuid.uuid5(_NAMESPACE, canonical_json(body).hex())
    return canonical_json(body | {"serialNumber": f"urn:uuid:{serial}"})


def _model(manifest: Manifest, reached: Iterable[Reached]) -> dict[str, Any]:
    digests = {item.name: item.sha256 for item in manifest.files}
    edition = {} if manifest.edition is None else {"version": str(manifest.edition)}
    return edition | {
        "type": "machine-learning-model",
        "bom-ref": _MODEL,
        "name": manifest.model,
        "description": manifest.release_notes,
        "hashes": [_hash(digests[MODEL_FILE])],
        "modelCard": {
            "modelParameters": {
                "datasets": [{"ref": _DATA}, {"ref": _SAMPLE}],
                "inputs": _formats(manifest.served, manifest.served.inputs),
                "outputs": _formats(manifest.served, manifest.served.outputs),
            },
            "quantitativeAnalysis": {"performanceMetrics": [_metric(item) for item in reached]},
        },
        "properties": [
            {"name": "holdfast:precision", "value": str(manifest.precision)},
            {"name": "holdfast:training_code", "value": manifest.provenance.training_code},
        ],
    }


def _formats(interface: Interface, specs: Iterable[TensorSpec]) -> list[dict[str, str]]:
    return [
        {"format": f"{spec.name} {spec.datatype} {list(interface.wire_shape(spec))}"}
        for spec in specs
    ]


def _metric(reached: Reached) -> dict[str, str]:
    threshold = reached.threshold
    told = {"type": f"{threshold.metric} of {threshold.output}", "value": repr(reached.value)}
    if threshold.segment is not None:
        told["slice"] = f"the worst {threshold.segment}"
    return told


def _data(ref: str, name: str, sha256: str, kind: str) -> dict[str, Any]:
    return {
        "type": "data",
        "bom-ref": ref,
        "name": name,
        "hashes": [_hash(sha256)],
        "data": [{"type": kind, "name": name}],
    }


def _framework(name: str, version: str) -> dict[str, Any]:
    return {
        "type": "framework",
        "bom-ref": f"framework:{name}",
        "name": name,
        "version": version,
    }


def _hash(sha256: str) -> dict[str, str]:
    return {"alg": "SHA-256", "content": sha256}
