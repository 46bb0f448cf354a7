"""What image steps do to a tensor spec. Pure."""

import msgspec

from appliance.fitting.prepared import Prepared, misfit, replaced, vanishes
from appliance.recipe import FP32_MAX, ImageStep, Layout, Normalise, Resize
from appliance.tensors import DataType


def image_step(step: ImageStep, before: Prepared) -> Prepared:
    """The tensor after `step`. Raises RecipeError when the step does not fit it."""
    if len(before.spec.shape) != 3 or before.order != "HWC":
        raise misfit(step, before, "needs an image of 3 axes, height x width x channels")
    if before.spec.datatype is not DataType.FP32:
        raise misfit(step, before, "needs FP32: put a cast first")
    height, width, channels = before.spec.shape
    match step:
        case Resize():
            return replaced(before, shape=(step.height, step.width, channels))
        case Normalise():
            _check_channels(step, before)
            return before
        case Layout():  # pragma: no branch
            chw = replaced(before, shape=(channels, height, width))
            return msgspec.structs.replace(chw, order=step.order)


def _check_channels(step: Normalise, before: Prepared) -> None:
    channels = before.spec.shape[2]
    if len(step.mean) != len(step.std) or vanishes(step.std):
        raise misfit(step, before, "needs as many std as mean, none of them 0 in FP32")
    if len(step.mean) not in (1, channels):
        raise misfit(step, before, f"needs 1 or {channels} values of mean and std")
    for mean, std in zip(step.mean, step.std, strict=True):
        if max(abs(step.scale / std), abs(mean / std)) > FP32_MAX:
            raise misfit(step, before, f"scale and mean over std {std:g} do not fit FP32")
