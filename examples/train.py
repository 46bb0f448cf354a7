"""Train the example models and write everything that `holdfast-compile pack` needs.

Knows: which examples there are and the way from a data set to ONNX, samples and a filled-in spec.
Rules: what a network sees while training is made by the recipe of its spec, run by the code that serves
(`runtime.kernels`), so that serving cannot differ; nothing is written that was not measured here.
Leaves to others: data (`example_data`), networks and fitting (`networks`).

    pip install .[train]
    python examples/train.py
"""

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import example_data
import networks
import numpy as np
import onnx
import spec_numbers
import torch
from example_data import SEED, Parts, Rows
from onnx.reference import ReferenceEvaluator
from torch import nn

from appliance.files import write_file
from appliance.fitting import trace
from appliance.golden import arrays_to_bytes
from appliance.recipe import InputRecipe, Recipe
from appliance.tensors import Array, DataType, Interface, TensorSpec
from compiler.spec import read_spec
from runtime.kernels.chain import Chain

EXAMPLES = Path(__file__).parent
OPSET = 17
SAMPLE_ROWS = 200
CHECKED_ROWS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One version of one model: its spec, its data, its network and how that is fitted."""

    spec: str
    parts: Callable[[], Parts]
    constants: Callable[[InputRecipe, Array], dict[str, str]]
    network: Callable[[], nn.Module]
    fit: networks.Fit

    @property
    def path(self) -> Path:
        """Where the spec is; the ONNX file lies beside it under the same name."""
        return EXAMPLES / self.spec


ALL = (
    Example(
        spec="digits/digits-1.toml",
        parts=example_data.digits,
        constants=spec_numbers.image_constants,
        network=networks.first_cnn,
        fit=networks.Fit(epochs=8, peak_rate=6e-3),
    ),
    Example(
        spec="digits/digits-2.toml",
        parts=example_data.digits,
        constants=spec_numbers.image_constants,
        network=networks.second_cnn,
        fit=networks.Fit(epochs=40, peak_rate=6e-3, augment=True),
    ),
    Example(
        spec="tumours/tumours-1.toml",
        parts=example_data.tumours,
        constants=spec_numbers.table_constants,
        network=networks.table_mlp,
        fit=networks.Fit(epochs=60, peak_rate=5e-3, weight_decay=1e-3),
    ),
)


def main() -> None:
    """Make every example, one line of figures each."""
    networks.repeatable()
    for example in ALL:
        make(example)


def make(example: Example) -> None:
    """Data, constants, training, export, measurement: in that order, all files beside the spec."""
    parts = example.parts()
    drafted = input_recipe(example.path)
    spec_numbers.fill(example.path, example.constants(drafted, parts.training.raw))
    item = input_recipe(example.path)
    write_parts(example.path.parent, item.raw.name, parts)
    rows = prepared(item, parts.training.raw)
    label = torch.from_numpy(parts.training.label)
    network = networks.train(example.network, rows, label, example.fit, SEED)
    size = export(network, rows[:CHECKED_ROWS], item.feeds, example.path.with_suffix(".onnx"))
    held_out, traffic = (accuracy(network, item, part) for part in (parts.held_out, parts.traffic))
    spec_numbers.fill(example.path, spec_numbers.evidence(parts, held_out))
    print(
        f"{example.path.stem}: trained on {len(label)} rows, accuracy {held_out:.4f} "
        f"on {len(parts.held_out.label)} held-out rows ({traffic:.4f} on {len(parts.traffic.label)} "
        f"traffic rows), {size / 1024:.0f} KiB"
    )


def input_recipe(spec: Path) -> InputRecipe:
    """The recipe of the one input that each model here has. Raises SpecError."""
    (item,) = read_spec(spec).recipe.inputs
    return item


def prepared(item: InputRecipe, raw: Array) -> torch.Tensor:
    """Raw rows through the recipe's kernels: FP32 (rows, *engine input shape)."""
    taken = TensorSpec(name=item.feeds, datatype=DataType.FP32, shape=trace(item)[-1].spec.shape)
    engine = Interface(inputs=(taken,), outputs=(), batch_max=len(raw))
    recipe = Recipe(inputs=(item,))
    into = np.empty((len(raw), *taken.shape), np.float32)
    chain = Chain(recipe, engine=engine)
    chain.before({item.raw.name: raw}, {item.feeds: into})
    return torch.from_numpy(into)


def accuracy(network: nn.Module, item: InputRecipe, rows: Rows) -> float:
    """Share of rows whose largest logit is at the true class."""
    logits = networks.logits_of(network, prepared(item, rows.raw)).numpy()
    return float(np.mean(logits.argmax(axis=1) == rows.label))


def write_parts(directory: Path, name: str, parts: Parts) -> None:
    """Write sample.npz (raw), held_out.npz and traffic.npz (raw and label), arrays under `name`."""
    sample = {name: parts.training.raw[:SAMPLE_ROWS]}
    write_file(directory / "sample.npz", arrays_to_bytes(sample))
    for file, rows in (("held_out.npz", parts.held_out), ("traffic.npz", parts.traffic)):
        arrays = {name: rows.raw, "label": rows.label}
        write_file(directory / file, arrays_to_bytes(arrays))


def export(network: nn.Module, rows: torch.Tensor, feeds: str, path: Path) -> int:
    """Write `network` as one ONNX file with a free batch axis; returns its size in bytes.

    The older exporter is asked for: it needs no further package, and it writes no paths of the
    training machine into the file. `rows` show that the file computes what the network does.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "You are using the legacy", DeprecationWarning)
        torch.onnx.export(
            network,
            (rows[:1],),
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=[feeds],
            output_names=["logits"],
            dynamic_axes={feeds: {0: "batch"}, "logits": {0: "batch"}},
        )
    model = onnx.load_from_string(buffer.getvalue())
    onnx.checker.check_model(model, full_check=True)
    (exported,) = ReferenceEvaluator(model).run(None, {feeds: rows.numpy()})
    np.testing.assert_allclose(
        exported, networks.logits_of(network, rows).numpy(), rtol=1e-4, atol=1e-5
    )
    write_file(path, buffer.getvalue())
    return len(buffer.getvalue())


if __name__ == "__main__":
    main()
