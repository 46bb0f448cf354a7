"""Which parts of a recipe and of a drift vector run on the device, and which the CPU keeps.

Knows: the rule for every step. Rules: what can be told from the recipe and the interface alone, so build and server agree; a part
runs on the device when a kernel for it exists, what it reads lies there, and nothing is gained by leaving it; everything
else the CPU does as ever, with a reason for the report. Leaves to others: the parts, programs of them (`runtime.fusing`).

The CPU keeps: texts; tables and signals; files to decode; FP64; outputs whose name another one had before; top-k past TOP_MOST;
suppression of more candidates than a block sorts; columns of the vector that it holds already.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from appliance.fitting.outputs import outputs_after
from appliance.layout import OutputValues, TableValues, VectorLayout
from appliance.layout import Part as LayoutPart
from appliance.recipe import (
    Accepts,
    AfterStep,
    ArgMax,
    BoxStep,
    Cast,
    Decode,
    Drop,
    InputRecipe,
    Labels,
    Recipe,
    SignalStep,
    Step,
    SuppressBoxes,
    Threshold,
    TopK,
)
from appliance.tensors import DataType, Interface, TensorSpec
from runtime.kernels.cuda import KernelSource, Part
from runtime.kernels.cuda.boxes import box_part
from runtime.kernels.cuda.images import ImagePart, unfit
from runtime.kernels.cuda.scores import TOP_MOST, cast_part, score_part
from runtime.kernels.cuda.suppression import CANDIDATES_MOST
from runtime.kernels.cuda.vectors import vector_part

SENT = "sent:"  # in front of the name of what clients send
READ_BY_KERNELS = frozenset(
    kind for kind in DataType if kind not in (DataType.FP64, DataType.BYTES)
)
FLOATS = (DataType.FP16, DataType.FP32)


class Values(NamedTuple):
    """`width` values of the drift vector from column `at` on, which `part` makes."""

    part: Part
    at: int
    width: int


class Left(NamedTuple):
    """Something that the CPU keeps: an input, a step or values of the vector, and why."""

    what: str
    why: str


class Split(NamedTuple):
    """A recipe divided.

    before: by engine input, the parts that make it of `sent:NAME`; the CPU prepares inputs that are missing here. after: in
    order; they read the engine's outputs and what those before them make. rest: what the CPU does to the engine's outputs and to
    what `after` made, in order. vector, vector_rest: the drift vector's parts, those of the CPU with their first column.
    """

    before: Mapping[str, tuple[Part, ...]]
    after: tuple[Part, ...]
    rest: tuple[AfterStep, ...]
    vector: tuple[Values, ...]
    vector_rest: tuple[tuple[int, LayoutPart], ...]
    left: tuple[Left, ...]

    def kernels(self) -> tuple[KernelSource, ...]:
        """All kernels of the device's parts, each once."""
        parts = [part for group in self.before.values() for part in group]
        parts += [*self.after, *(values.part for values in self.vector)]
        sources = {source.name: source for part in parts for source in part.kernels()}
        return tuple(sources.values())


def split(recipe: Recipe, engine: Interface, layout: VectorLayout) -> Split:
    """Divide `recipe` for an engine with this interface, and the vector that `layout` describes.

    Raises RecipeError when the recipe does not fit the interface.
    """
    left: list[Left] = []
    before = dict(_inputs(recipe, engine, left))
    after, rest = _outputs(recipe, engine, left)
    served = _served(recipe, engine)
    vector, vector_rest, at = [], [], 0
    for part in layout.parts:
        width = sum(1 for _ in part.values())
        source, why = _source(part, engine, set(before), served)
        if why:
            vector_rest.append((at, part))
            left.append(Left(f"drift values of '{source.name}'", why))
        else:
            made = vector_part(part, source, at, batch_axis=layout.batch_axis)
            vector.append(Values(made, at, width))
        at += width
    return Split(before, after, rest, tuple(vector), tuple(vector_rest), tuple(left))


def _inputs(
    recipe: Recipe, engine: Interface, left: list[Left]
) -> Iterator[tuple[str, tuple[Part, ...]]]:
    for spec in engine.inputs:
        item = recipe.input_for(spec.name)
        if item is None or item.accepts is Accepts.PREPARED:
            continue
        part, why = _input(item, spec, engine.batch_max)
        if part is None:
            left.append(Left(f"input '{spec.name}'", why))
        else:
            yield spec.name, (part,)


def _input(item: InputRecipe, spec: TensorSpec, rows: int) -> tuple[Part | None, str]:
    """What makes an engine input of up to `rows` rows on the device, or why nothing does; in the order of `chain`."""
    raw, sent = item.raw, SENT + item.raw.name
    if all(isinstance(step, Cast) for step in item.steps) and item.accepts is Accepts.RAW:
        if raw.datatype not in READ_BY_KERNELS or spec.datatype not in FLOATS:
            return None, f"{raw.datatype} is cast to {spec.datatype}"
        source = TensorSpec(name=sent, datatype=raw.datatype, shape=raw.shape)
        return cast_part(source, spec.name, spec.datatype.numpy.name), ""
    if any(isinstance(step, SignalStep) for step in item.steps):
        return None, "signals have no kernels on the device"
    if item.columns:
        return None, "tables have no kernels on the device"
    if isinstance(item.steps[0], Decode):
        return None, "files are decoded by the CPU, to pictures of unlike sizes"
    why = unfit(raw, item.steps, rows)
    if why:
        return None, why
    return ImagePart(reads=sent, makes=spec.name, raw=raw, steps=item.steps), ""


def _outputs(
    recipe: Recipe, engine: Interface, left: list[Left]
) -> tuple[tuple[Part, ...], tuple[AfterStep, ...]]:
    """The parts of the device and the steps of the CPU; `there` are the tensors that lie on the device."""
    outputs, rest, parts = list(engine.outputs), list[AfterStep](), list[Part]()
    there = {spec.name for spec in outputs}
    ever = set(there)
    for step in recipe.after:
        known = {spec.name: spec for spec in outputs}
        outputs = outputs_after(step, outputs, recipe)
        made = {spec.name for spec in outputs} - set(known)
        why = _why_not(step, known, there)
        if not why and made & ever:
            why = "a tensor of this name was dropped before"
        ever |= made
        if why:
            there -= made
            rest.append(step)
            if not isinstance(step, Drop):
                left.append(Left(f"step '{step.__struct_config__.tag}'", why))
            continue
        part = _part(step, known)
        parts.append(part)
        there |= set(part.makes)
        if isinstance(step, ArgMax | TopK) and step.labels is not None:
            rest.append(Labels(tensor=step.output, output=step.labels))
    return tuple(parts), tuple(rest)


def _part(step: AfterStep, known: Mapping[str, TensorSpec]) -> Part:
    if isinstance(step, BoxStep):
        return box_part(step, known)
    assert not isinstance(step, Drop)
    return score_part(step, known[step.tensor])


def _why_not(step: AfterStep, known: Mapping[str, TensorSpec], there: set[str]) -> str:
    """Why `step` stays on the CPU; empty when it does not."""
    if isinstance(step, Drop):
        return "it only leaves out"
    if isinstance(step, Labels) or (isinstance(step, Threshold) and step.labels is not None):
        return "it makes texts"
    for name in _read(step):
        if name not in there:
            return f"it reads '{name}', which the CPU makes"
        if known[name].datatype not in FLOATS:
            return f"it reads '{name}', which is {known[name].datatype}"
    if isinstance(step, TopK) and step.k > TOP_MOST:
        return f"k is {step.k}, the device finds {TOP_MOST}"
    if isinstance(step, SuppressBoxes):
        return _too_many(step, known[step.boxes], known[step.scores])
    return ""


def _read(step: Step) -> tuple[str, ...]:
    if isinstance(step, SuppressBoxes):
        return step.boxes, step.scores
    name: str = getattr(step, "tensor")  # noqa: B009  every other step has one
    return (name,)


def _too_many(step: SuppressBoxes, boxes: TensorSpec, scores: TensorSpec) -> str:
    """Why there may be more candidates than the device sorts; empty when there never are."""
    anchors = boxes.shape[-2]
    classes = scores.shape[-1] if len(scores.shape) == len(boxes.shape) else 1
    if not step.every_class:
        classes = 1
    at_most = step.candidates_max
    if anchors != -1 and classes != -1:
        at_most = min(at_most, anchors * classes)
    if at_most > CANDIDATES_MOST:
        return f"it ranks up to {at_most} candidates, the device {CANDIDATES_MOST}"
    return ""


def _served(recipe: Recipe, engine: Interface) -> set[str]:
    """The outputs that clients get."""
    outputs = list(engine.outputs)
    for step in recipe.after:
        outputs = outputs_after(step, outputs, recipe)
    return {spec.name for spec in outputs}


def _source(
    part: LayoutPart, engine: Interface, on_device: set[str], served: set[str]
) -> tuple[TensorSpec, str]:
    """The tensor that a part of the vector is of, and why the CPU computes it; empty when it does not."""
    of_outputs = hasattr(part, "output")
    name = part.output if hasattr(part, "output") else part.input
    specs = engine.outputs if of_outputs else engine.inputs
    source = next(spec for spec in specs if spec.name == name)
    if source.datatype not in READ_BY_KERNELS:
        return source, f"it is {source.datatype}"
    if isinstance(part, TableValues) and name not in on_device:
        return source, "the CPU prepares it"
    if isinstance(part, OutputValues) and name in served:
        return source, "the CPU gets it anyway"
    return source, ""
