"""What signal steps do to a tensor spec. Pure."""

from appliance.fitting.prepared import Order, Prepared, check, misfit, replaced
from appliance.recipe import (
    Frame,
    Log,
    Mel,
    Range,
    Scale,
    SignalStep,
    Spectrum,
    Transpose,
)
from appliance.tensors import DataType

BAND_MIN = 1e-6  # of the rate, from a mel step's low to its high: filters must have a width
AFTER_FRAME: tuple[Order, ...] = ("spectrum", "mels", "levels")


def signal_step(step: SignalStep, before: Prepared) -> Prepared:
    """The tensor after `step`. Raises RecipeError when the step does not fit it."""
    at = _order(step, before)
    shape = before.spec.shape
    match step:
        case Scale():
            check(step, before, at != "transposed", "the transpose is the last step")
            return replaced(before, order=at)
        case Frame():
            check(step, before, at == "samples", "the signal is in frames already")
            return replaced(before, shape=_framed(step, before), order="frames")
        case Spectrum():
            check(step, before, at == "frames", "needs frames: put a frame step first")
            return replaced(before, shape=(*shape[:-1], _bins(step, before)), order="spectrum")
        case Mel():
            check(step, before, at == "spectrum", "needs a spectrum, before any log")
            _check_band(step, before)
            return replaced(before, shape=(*shape[:-1], step.mels), order="mels")
        case Log():
            check(step, before, at in ("spectrum", "mels"), "needs a spectrum, not yet a log")
            return replaced(before, order="levels")
        case Range():
            check(step, before, at in AFTER_FRAME, "needs a spectrum")
            return replaced(before, order="levels")
        case Transpose():  # pragma: no branch
            check(step, before, len(shape) > 1 and at != "transposed", "needs two axes, once")
            return replaced(before, shape=(*shape[:-2], shape[-1], shape[-2]), order="transposed")


def _order(step: SignalStep, before: Prepared) -> Order:
    """What the axes are; what no step has touched yet is taken for samples."""
    if before.order not in ("HWC", "CHW", "HW"):
        return before.order
    if before.columns or before.order != "HWC" or len(before.spec.shape) not in (1, 2):
        raise misfit(step, before, "needs a signal, [samples] or [samples, channels]")
    check(step, before, before.spec.datatype is DataType.FP32, "needs FP32: put a cast first")
    if len(before.spec.shape) == 2 and before.spec.shape[1] < 1:
        raise misfit(step, before, "needs a fixed number of channels, 1 or more")
    return "samples"


def _framed(step: Frame, before: Prepared) -> tuple[int, ...]:
    samples, *channels = before.spec.shape
    if samples == -1:
        return (*channels, -1, step.length)
    check(step, before, samples >= step.samples_min, f"needs {step.samples_min} samples or more")
    return (*channels, step.count(samples), step.length)


def _bins(step: Spectrum, before: Prepared) -> int:
    length = before.spec.shape[-1]
    size = length if step.size is None else step.size
    check(step, before, size >= length, f"needs a size of {length} or more")
    return size // 2 + 1


def _check_band(step: Mel, before: Prepared) -> None:
    high = step.rate / 2 if step.high is None else step.high
    check(
        step,
        before,
        step.low < high <= step.rate / 2,
        f"needs low < high <= rate / 2, which are {step.low:g}, {high:g} and {step.rate / 2:g} Hz",
    )
    check(step, before, high - step.low >= BAND_MIN * step.rate, "needs low further below high")
