"""The networks of the examples and how they are fitted.

Knows: three small architectures and one training loop. Rules: all chance comes from the seed, one
thread does the sums. Leaves to others: the data (`example_data`) and the files (`train`).

Runs on one machine repeat to the byte. Another kind of CPU (or another torch) may add floats in another
order, which moves weights in their last digits and accuracy by a row or so.
"""

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

BATCH_ROWS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """How long and how fast a network is trained; `augment` moves images about while it learns."""

    epochs: int
    peak_rate: float
    augment: bool = False
    weight_decay: float = 1e-4


def first_cnn() -> nn.Module:
    """Digits, version 1: FP32 (rows, 1, 16, 16) to logits (rows, 10), 1626 weights."""
    return nn.Sequential(
        OrderedDict(
            first=nn.Conv2d(1, 4, kernel_size=3, stride=2, padding=1),
            first_relu=nn.ReLU(),
            second=nn.Conv2d(4, 8, kernel_size=3, stride=2, padding=1),
            second_relu=nn.ReLU(),
            flatten=nn.Flatten(),
            head=nn.Linear(8 * 4 * 4, 10),
        )
    )


def second_cnn() -> nn.Module:
    """Digits, version 2: the same interface, 16 and 24 channels, pooling in place of strides."""
    return nn.Sequential(
        OrderedDict(
            first=nn.Conv2d(1, 16, kernel_size=3, padding=1),
            first_relu=nn.ReLU(),
            first_pool=nn.MaxPool2d(2),
            second=nn.Conv2d(16, 24, kernel_size=3, padding=1),
            second_relu=nn.ReLU(),
            second_pool=nn.MaxPool2d(2),
            flatten=nn.Flatten(),
            head=nn.Linear(24 * 4 * 4, 10),
        )
    )


def table_mlp() -> nn.Module:
    """Tumours, version 1: FP32 (rows, 20) to logits (rows, 2)."""
    return nn.Sequential(
        OrderedDict(hidden=nn.Linear(20, 16), relu=nn.ReLU(), head=nn.Linear(16, 2))
    )


def train(
    build: Callable[[], nn.Module], prepared: Tensor, label: Tensor, fit: Fit, seed: int
) -> nn.Module:
    """Build a network and fit it to `prepared` rows by Adam on a one-cycle rate (Smith 2018)."""
    torch.manual_seed(seed)
    network = build()
    steps = fit.epochs * math.ceil(len(prepared) / BATCH_ROWS)
    optimiser = torch.optim.Adam(network.parameters(), weight_decay=fit.weight_decay)
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, fit.peak_rate, total_steps=steps)
    for _ in range(fit.epochs):
        for at in torch.randperm(len(prepared)).split(BATCH_ROWS):
            batch = _moved(prepared[at]) if fit.augment else prepared[at]
            optimiser.zero_grad()
            functional.cross_entropy(network(batch), label[at]).backward()
            optimiser.step()
            rate.step()
    return network.eval()


@torch.no_grad()
def logits_of(network: nn.Module, prepared: Tensor) -> Tensor:
    """Logits FP32 (rows, classes)."""
    return network(prepared)


def repeatable() -> None:
    """One thread and deterministic kernels, for the whole process."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)


def _moved(images: Tensor) -> Tensor:
    """Turn by up to 10 degrees, scale by up to 12 %, shift by up to 1.2 pixels of 16."""
    rows = len(images)
    angle, scale = _around(0.0, 0.175, rows), _around(1.0, 0.125, rows)
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    across = torch.stack([cosine, -sine, _around(0.0, 0.15, rows)], dim=1)
    down = torch.stack([sine, cosine, _around(0.0, 0.15, rows)], dim=1)
    grid = functional.affine_grid(
        torch.stack([across, down], dim=1), list(images.shape), align_corners=False
    )
    return functional.grid_sample(images, grid, padding_mode="border", align_corners=False)


def _around(middle: float, reach: float, rows: int) -> Tensor:
    return middle + (2 * torch.rand(rows) - 1) * reach
