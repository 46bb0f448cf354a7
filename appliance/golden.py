"""Golden vectors: inputs with the reference's outputs, and how far an engine may differ.

Knows: named arrays at rest (.npz, uncompressed, no pickles) and the comparison. Rules: equal arrays give
equal bytes; NaN equals NaN; an infinite value, an integer or a boolean must be matched exactly. Leaves
to others: who computed the reference and who runs the engine.
"""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from appliance.errors import ApplianceError, GoldenMissed, StoreError
from appliance.manifest import Tolerance
from appliance.tensors import Array, TensorSpec, datatype_of

ARRAYS_BYTES_MAX = 4 << 30  # of one file, unpacked
_INPUT, _OUTPUT = "input/", "output/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Golden:
    """Served inputs and the reference's engine outputs, by name, rows along the batch axis."""

    inputs: dict[str, Array]
    outputs: dict[str, Array]

    def to_bytes(self) -> bytes:
        """The vectors as .npz bytes."""
        named = {_INPUT + name: array for name, array in self.inputs.items()}
        return arrays_to_bytes(
            named | {_OUTPUT + name: array for name, array in self.outputs.items()}
        )

    @classmethod
    def load(cls, path: Path) -> "Golden":
        """Read the vectors of a stored version; StoreError when the file is unreadable."""
        arrays = load_arrays(path, StoreError)
        return cls(inputs=_under(_INPUT, arrays), outputs=_under(_OUTPUT, arrays))

    @property
    def rows(self) -> int:
        """How many golden rows there are."""
        return len(next(iter(self.inputs.values())))


def check_golden(outputs: Mapping[str, Array], golden: Golden, tolerance: Tolerance) -> float:
    """Return the largest absolute error of `outputs` against the golden outputs.

    Raises GoldenMissed naming output, row and values when |x - r| > absolute + relative * |r|, or when
    integers or booleans are not equal.
    """
    worst = 0.0
    for name, reference in golden.outputs.items():
        worst = max(worst, _check_one(name, np.asarray(outputs[name]), reference, tolerance))
    return worst


def rows_fit(spec: TensorSpec, array: Array) -> bool:
    """True when `array` holds rows of `spec`: its datatype, its shape behind an axis of rows."""
    fits = array.ndim > 0 and spec.fits(array.shape[1:])
    return fits and datatype_of(array.dtype) is spec.datatype


def arrays_to_bytes(arrays: Mapping[str, Array]) -> bytes:
    """Named arrays as .npz bytes; numpy gives every entry the same fixed date."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{name: arrays[name] for name in sorted(arrays)})
    return buffer.getvalue()


def load_arrays(path: Path, error: type[ApplianceError]) -> dict[str, Array]:
    """Read a .npz file of plain arrays.

    Raises `error` when it is none, holds objects, or has more than ARRAYS_BYTES_MAX bytes unpacked.
    """
    try:
        with path.open("rb") as file:
            _check_size(file, path, error)
            # numpy leaves its own file open when the archive is damaged.
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
    except FileNotFoundError as cause:
        raise error(f"no file {path}", remedy="check the path") from cause
    except ApplianceError:
        raise
    except Exception as cause:  # numpy, zipfile and zlib raise what they like on damaged bytes
        raise _no_arrays(path, error) from cause
    if not all(isinstance(array, np.ndarray) for array in arrays.values()):
        raise _no_arrays(path, error)
    return arrays


def _check_size(file: BinaryIO, path: Path, error: type[ApplianceError]) -> None:
    """Refuse what would fill the memory before any of it is unpacked; zipfile reads no more later."""
    with zipfile.ZipFile(file) as archive:
        size = sum(item.file_size for item in archive.infolist())
    if size > ARRAYS_BYTES_MAX:
        raise error(
            f"{path} has {size} bytes unpacked, more than {ARRAYS_BYTES_MAX}",
            remedy="give fewer rows",
        )
    file.seek(0)


def _no_arrays(path: Path, error: type[ApplianceError]) -> ApplianceError:
    return error(
        f"{path} is not a readable .npz of plain arrays",
        remedy="write it with numpy.savez from arrays of numbers",
    )


def _under(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def _check_one(name: str, got: Array, reference: Array, tolerance: Tolerance) -> float:
    if got.shape != reference.shape:
        raise GoldenMissed(
            f"output '{name}' has shape {list(got.shape)}, the reference {list(reference.shape)}",
            remedy="the engine does not compute this model; report the engine and its version",
        )
    floating = np.issubdtype(reference.dtype, np.floating)
    missed, worst = _errors(got, reference, tolerance) if floating else (got != reference, 0.0)
    if missed.any():
        at = tuple(int(axis[0]) for axis in np.nonzero(missed))
        digits = ".6g" if floating else ""
        raise GoldenMissed(
            f"output '{name}' at {list(at)} is {got[at]:{digits}}, "
            f"the reference {reference[at]:{digits}}",
            remedy="raise the tolerance in the spec if this error is acceptable, or fix the model"
            if floating
            else "integers and booleans must be equal: give the values they are made from instead",
        )
    return worst


def _errors(got: Array, reference: Array, tolerance: Tolerance) -> tuple[Array, float]:
    """Where floating-point values are out of tolerance, and the largest error."""
    wanted, actual = reference.astype(np.float64), got.astype(np.float64)
    same = (wanted == actual) | (np.isnan(wanted) & np.isnan(actual))
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, np.abs(actual - wanted))
        allowed = tolerance.absolute + tolerance.relative * np.abs(wanted)
        missed = ~same & ~((error <= allowed) & np.isfinite(wanted))
    return missed, float(error.max(initial=0.0))
