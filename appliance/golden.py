"""Golden vectors: inputs with the reference's outputs, and how far an engine may differ.

Knows: named arrays at rest (.npz, uncompressed, no pickles) and the comparison. Rules: equal arrays give
equal bytes; NaN equals NaN; an infinite value, an integer, a boolean or a text must be matched exactly. Leaves
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
from appliance.texts import are_texts_at_rest, texts_at_rest, texts_from_rest

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

    def ranges(self) -> dict[str, float]:
        """The range of each output's values over all rows, R of `Tolerance`; 0.0 where there is none."""
        return {name: value_range(array) for name, array in self.outputs.items()}

    def gated(self, *, exact: bool) -> set[str]:
        """The outputs that must not differ; see `check_golden`."""
        floating = {name for name, array in self.outputs.items() if is_floating(array)}
        return floating if floating and not exact else set(self.outputs)


def check_golden(
    outputs: Mapping[str, Array],
    golden: Golden,
    tolerance: Tolerance,
    *,
    ranges: Mapping[str, float] | None = None,
    exact: bool = True,
) -> float:
    """Return the largest absolute error of `outputs` against the golden outputs.

    ranges: R of `Tolerance` by output where `golden` is a part of the rows, None where it is all. exact:
    integers and booleans must be equal; otherwise only where no floating-point output is compared beside
    them. Raises GoldenMissed naming output, row and values at the first miss.
    """
    gated, worst = golden.gated(exact=exact), 0.0
    for name, reference in golden.outputs.items():
        scale = value_range(reference) if ranges is None else ranges[name]
        if name in gated:
            got = np.asarray(outputs[name])
            worst = max(worst, _check_one(name, got, reference, tolerance, scale))
    return worst


def rows_fit(spec: TensorSpec, array: Array) -> bool:
    """True when `array` holds rows of `spec`: its datatype, its shape behind an axis of rows."""
    fits = array.ndim > 0 and spec.fits(array.shape[1:])
    return fits and datatype_of(array.dtype) is spec.datatype


def arrays_to_bytes(arrays: Mapping[str, Array]) -> bytes:
    """Named arrays as .npz bytes, every entry with the same fixed date; BYTES as in `texts`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in sorted(arrays):
            array = np.asarray(arrays[name])
            kept = texts_at_rest(array) if array.dtype == np.object_ else array
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, kept, allow_pickle=False)
    return buffer.getvalue()


def load_arrays(path: Path, error: type[ApplianceError]) -> dict[str, Array]:
    """Read a .npz file of plain arrays; those in the form of `texts` become object arrays of `bytes`.

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
    try:
        return {
            name: texts_from_rest(array) if are_texts_at_rest(array) else array
            for name, array in arrays.items()
        }
    except ValueError as cause:
        raise _no_arrays(path, error) from cause


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
        remedy="write it with numpy.savez from arrays of numbers, or of text with dtype U or S",
    )


def _under(prefix: str, arrays: Mapping[str, Array]) -> dict[str, Array]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }


def is_floating(array: Array) -> bool:
    """True when `array` holds floating-point numbers."""
    return np.issubdtype(array.dtype, np.floating)


def value_range(array: Array) -> float:
    """The largest finite value of a floating-point `array` less its smallest; 0.0 for any other."""
    if not is_floating(array):
        return 0.0
    finite = array[np.isfinite(array)].astype(np.float64)
    return float(finite.max() - finite.min()) if finite.size else 0.0


def deviations(
    got: Array, reference: Array, tolerance: Tolerance, scale: float
) -> tuple[Array, Array]:
    """Where floating-point values are out of `tolerance`, boolean, and their absolute errors, FP64.

    scale: R of `Tolerance`. An error is NaN or infinite where only one of both values is finite.
    """
    wanted, actual = reference.astype(np.float64), got.astype(np.float64)
    same = (wanted == actual) | (np.isnan(wanted) & np.isnan(actual))
    with np.errstate(invalid="ignore"):
        errors = np.where(same, 0.0, np.abs(actual - wanted))
        allowed = (
            tolerance.absolute + tolerance.relative * np.abs(wanted) + tolerance.of_range * scale
        )
        missed = ~same & ~((errors <= allowed) & np.isfinite(wanted))
    return missed, errors


def _check_one(
    name: str, got: Array, reference: Array, tolerance: Tolerance, scale: float
) -> float:
    if got.shape != reference.shape:
        raise GoldenMissed(
            f"output '{name}' has shape {list(got.shape)}, the reference {list(reference.shape)}",
            remedy="the engine does not compute this model; report the engine and its version",
        )
    if is_floating(reference):
        missed, errors = deviations(got, reference, tolerance, scale)
        worst = float(errors.max(initial=0.0))
    else:
        missed, worst = np.asarray(got != reference), 0.0
    if missed.any():
        raise _missed(name, got, reference, tuple(int(axis[0]) for axis in np.nonzero(missed)))
    return worst


def _missed(name: str, got: Array, reference: Array, at: tuple[int, ...]) -> GoldenMissed:
    floating = is_floating(reference)
    digits = ".6g" if floating else ""
    return GoldenMissed(
        f"output '{name}' at {list(at)} is {got[at]:{digits}}, "
        f"the reference {reference[at]:{digits}}",
        remedy="raise the tolerance in the spec if this error is acceptable, or fix the model"
        if floating
        else "integers, booleans and texts must be equal: give the values they are made from instead",
    )
