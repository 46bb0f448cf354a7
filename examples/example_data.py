"""The data of the examples: raw rows as clients send them, split once, by a seed.

Knows: the two scikit-learn sets, how each becomes raw arrays, who gets which rows. Rules: a row is in
one part only; nothing here prepares a value for a network, the recipe of the spec does that. Leaves to
others: training (`networks`) and the files (`train`).
"""

import hashlib
from dataclasses import dataclass

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.model_selection import train_test_split

from appliance.tensors import Array

SEED = 2
GREY_LEVELS = 16
BLANK_SHARE = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Raw rows of one input and the true class of each, INT64 (rows,)."""

    raw: Array
    label: Array

    def sha256(self) -> str:
        """SHA-256 over dtype, shape and little-endian row-major bytes of `raw`, then of `label`."""
        digest = hashlib.sha256()
        for array in (self.raw, self.label):
            little = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
            digest.update(f"{little.dtype.str}{little.shape}".encode())
            digest.update(little.tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """Three parts of a set that share no row.

    `training` fits the network; `held_out` measures it and makes the reference profile; `traffic` is
    what a client may send: rows that neither the network nor the profile has seen.
    """

    training: Rows
    held_out: Rows
    traffic: Rows


def digits() -> Parts:
    """1797 grey images of handwritten digits, UINT8 (rows, 8, 8, 1) in 0..255, classes 0..9.

    The set counts ink in 0..16; clients send ordinary grey bytes, so 16 becomes 255.
    """
    found = load_digits()
    grey = np.rint(found.images * (255 / GREY_LEVELS)).astype(np.uint8)
    return _split(grey[..., np.newaxis], found.target, held_out=540, traffic=397)


def tumours() -> Parts:
    """569 tissue samples of 30 measurements, FP64 (rows, 30); class 0 malignant, 1 benign.

    The set has no missing values, real tables do: one value in fifty, drawn by the seed, is blanked to
    NaN in all three parts, so that network and profile know what an imputed value looks like.
    """
    found = load_breast_cancer()
    blank = np.random.default_rng(SEED).random(found.data.shape) < BLANK_SHARE
    return _split(np.where(blank, np.nan, found.data), found.target, held_out=200, traffic=69)


def _split(raw: Array, label: Array, *, held_out: int, traffic: int) -> Parts:
    label = label.astype(np.int64)
    rest, others = train_test_split(
        np.arange(len(raw)), test_size=held_out + traffic, stratify=label, random_state=SEED
    )
    held, sent = train_test_split(
        others, test_size=traffic, stratify=label[others], random_state=SEED
    )
    training, unseen, live = (Rows(raw=raw[at], label=label[at]) for at in (rest, held, sent))
    return Parts(training=training, held_out=unseen, traffic=live)
