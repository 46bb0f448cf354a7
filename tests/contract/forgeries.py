"""Mutants of bundles, as they are and signed again by a trusted key.

Knows: the bundle's layout, written here by hand from its description so that the writer's own checks do
not help. Rules: as in `mutants`; a forgery's digests and signature always fit, so that what is behind them
is reached. Leaves to others: what must become of a forgery (`fuzz`).
"""

import base64
import hashlib
import io
import json
import random
import struct
import zipfile
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from model_mutants import model_mutant
from mutants import LENGTHS, bytes_mutant

from appliance.modelkeys import hint_of
from appliance.signing import SigningKey, typed_message

_HEAD = struct.Struct("<8sIII")  # magic, format 2, lengths of manifest and signature
_PAYLOAD_TYPE = "application/vnd.in-toto+json"
_LEAVES = (*LENGTHS, 1e308, "", "x", "../x", "é" * 300, True, None, [], {}, [[]], "INT64", "nan")


def bundle_mutant(data: bytes, rng: random.Random) -> bytes:
    """The bundle with bytes changed: often in its head or manifest, for those are short."""
    if rng.random() < 0.5:
        _, _, length, signature = _HEAD.unpack_from(data)
        front = _HEAD.size + signature + length
        return bytes_mutant(data[:front], rng) + data[front:]
    return bytes_mutant(data, rng)


def forgery(data: bytes, key: SigningKey, rng: random.Random) -> bytes:
    """The bundle with its manifest or a file changed, every digest and the signature made anew."""
    manifest, files = _opened(data)
    for _ in range(rng.randint(1, 2)):
        if rng.random() < 0.5:
            _change_leaf(manifest, rng)
        else:
            name = rng.choice(sorted(files))
            files[name] = _changed(name, files[name], rng)
    if isinstance(manifest.get("files"), list) and rng.random() < 0.95:
        manifest["files"] = [_entry(name, content) for name, content in files.items()]
    body = json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode()
    signature = _signature(body, manifest, key)
    head = _HEAD.pack(b"HOLDFAST", 2, len(body), len(signature))
    return head + signature + body + b"".join(files.values())


def _signature(body: bytes, manifest: dict[str, Any], key: SigningKey) -> bytes:
    """A model.sig that fits whatever the manifest says, as far as that can be signed at all."""
    named = {"manifest.json": hashlib.sha256(body).hexdigest()}
    entries = manifest.get("files")
    for item in entries if isinstance(entries, list) else ():
        if isinstance(item, dict) and isinstance(item.get("name"), str):
            digest = item.get("sha256")
            fits = isinstance(digest, str) and len(digest) == 64
            named[item["name"]] = digest if fits and set(digest) <= set("0123456789abcdef") else ""
    resources = [
        {"name": name, "algorithm": "sha256", "digest": digest}
        for name, digest in sorted(named.items())
    ]
    root = hashlib.sha256(b"".join(bytes.fromhex(item["digest"]) for item in resources))
    statement = {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"name": "forged", "digest": {"sha256": root.hexdigest()}}],
        "predicateType": "https://model_signing/signature/v1.0",
        "predicate": {"serialization": {"method": "files"}, "resources": resources},
    }
    payload = json.dumps(statement).encode()
    sig = base64.b64encode(key.sign(typed_message(_PAYLOAD_TYPE, payload))).decode()
    told = {
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": hint_of(key.public)}, "tlogEntries": []},
        "dsseEnvelope": {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": _PAYLOAD_TYPE,
            "signatures": [{"sig": sig, "keyid": ""}],
        },
    }
    return json.dumps(told).encode()


def _opened(data: bytes) -> tuple[dict[str, Any], dict[str, bytes]]:
    _, _, length, signature = _HEAD.unpack_from(data)
    begins = _HEAD.size + signature
    at = begins + length
    manifest, files = json.loads(data[begins:at]), {}
    for item in manifest["files"]:
        files[item["name"]] = data[at : at + item["bytes"]]
        at += item["bytes"]
    return manifest, files


def _entry(name: str, content: bytes) -> dict[str, Any]:
    return {"name": name, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def _change_leaf(node: Any, rng: random.Random) -> None:
    """Walk down to some place in the JSON and set, delete, double or add something there."""
    while True:
        keys = list(node) if isinstance(node, dict) else list(range(len(node)))
        if not keys:
            return
        key = rng.choice(keys)
        if isinstance(node[key], dict | list) and node[key] and rng.random() < 0.85:
            node = node[key]
            continue
        match rng.randrange(5):
            case 0:
                del node[key]
            case 1 if isinstance(node, list):
                node.append(node[key])
            case 2 if isinstance(node, dict):
                node[rng.choice(("x", "format", "name"))] = rng.choice(_LEAVES)
            case _:
                node[key] = rng.choice(_LEAVES)
        return


def _changed(name: str, content: bytes, rng: random.Random) -> bytes:
    """A file of the bundle changed by its meaning, as far as it still has one."""
    if rng.random() < 0.8:
        try:
            if name.endswith(".npz"):
                return arrays_mutant(content, rng)
            if name.endswith(".onnx"):
                return model_mutant(content, rng)
            whole = json.loads(content)
            _change_leaf(whole, rng)
            return json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()
        except (ValueError, zipfile.BadZipFile, DecodeError):
            pass  # an earlier change left nothing to read
    return bytes_mutant(content, rng)


def arrays_mutant(content: bytes, rng: random.Random) -> bytes:
    """The .npz file `content` with an array of another type, length, name or with other numbers."""
    with np.load(io.BytesIO(content)) as archive:
        arrays = {name: archive[name] for name in archive.files}
    name = rng.choice(sorted(arrays))
    array = arrays[name]
    match rng.randrange(9):
        case 0:
            with np.errstate(invalid="ignore"):
                arrays[name] = array.astype(rng.choice((np.int8, np.float64, np.complex64, "S3")))
        case 1:
            arrays[name] = array[: rng.choice((0, 1, 2))]
        case 2:
            arrays[name] = array.reshape(-1)
        case 3:
            arrays["input/x"] = arrays.pop(name)
        case 4 | 5 if array.dtype.kind == "f":
            flat = array.reshape(-1).copy()
            flat[:: rng.choice((1, 7))] = rng.choice((np.nan, np.inf, -1e38, 0.0))
            arrays[name] = flat.reshape(array.shape)
        case 6:
            arrays[name] = np.zeros(rng.choice(((), (0,), (1, 0), (3,))), array.dtype)
        case 7:
            return _lying(name, rng)
        case _:
            arrays[name] = array[..., None]
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _lying(name: str, rng: random.Random) -> bytes:
    """An archive of one array whose head claims more than there is, or objects."""
    shape = rng.choice(((1 << 20,), (1 << 33,), (1 << 62,), (-1,), (1 << 31, 1 << 31)))
    head = {
        "descr": rng.choice(("<f4", "|O", "<U9", "|S0")),
        "fortran_order": False,
        "shape": shape,
    }
    entry, buffer = io.BytesIO(), io.BytesIO()
    np.lib.format.write_array_header_1_0(entry, head)
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(f"{name}.npy", entry.getvalue() + bytes(64))
    return buffer.getvalue()
