"""Signal recipes: samples to frames, spectra and mels, a block of frames at a time.

Knows: which kernels a run of steps needs and their constants. Rules: from the FP32 samples on everything
is FP64 and rounded to FP32 at the end (and before each range step); the Fourier transform and the
logarithm are numpy's, which write into scratch; scratch is as large as one block, however long the signal
is. Leaves to others: what the steps come to (`signal_plan`), the arithmetic (`signal_steps`).
"""

from collections.abc import Iterable, Sequence

import numpy as np

from appliance.errors import RequestError
from appliance.recipe import BeforeStep, Frame
from appliance.tensors import Array, TensorSpec
from runtime.kernels.compiled import DOUBLE, FLAG, INTEGER, compiled, reads, writes
from runtime.kernels.scratch import Scratch, cast_into
from runtime.kernels.signal_plan import SignalPlan, plan_of
from runtime.kernels.signal_steps import (
    cut_frames,
    finish,
    limit_range,
    measure_bins,
    scale_samples,
    sum_bands,
)
from runtime.kernels.spectra import mel_filters, window_of

BLOCK_VALUES = 32768  # of one block of frames, at least one frame: what stays in a core's cache


class SignalChain:
    """The steps of one signal input; making it compiles its kernels."""

    def __init__(self, raw: TensorSpec, steps: Iterable[BeforeStep]) -> None:
        self._raw, self._plan = raw, plan_of(steps)
        frame = self._plan.frame
        self._blocks = None if frame is None else _Blocks(self._plan, frame)
        self._samples_min = 1 if frame is None else frame.samples_min
        self._scratch = Scratch()
        out = writes(np.float32, 2)
        self._scale = compiled(scale_samples, reads(np.float32, 2), out, DOUBLE, DOUBLE, FLAG)
        self._limit = compiled(limit_range, out, DOUBLE, DOUBLE, DOUBLE)

    def shape(self, sent: Sequence[Array]) -> tuple[int, ...]:
        """The shape made of signals (rows, samples) or (rows, samples, channels).

        Raises RequestError when one is too short for a frame.
        """
        rows, samples, *channels = sent[0].shape
        if samples < self._samples_min:
            raise RequestError(
                f"input '{self._raw.name}' has {samples} samples, "
                f"the recipe needs {self._samples_min} or more",
                remedy="send a longer signal, or fill it up with silence",
            )
        if self._blocks is None:
            made = [samples, *channels]
        else:
            made = [*channels, *self._blocks.shape(samples)]
        if self._plan.transposed:
            made[-2:] = made[:-3:-1]
        return (rows, *made)

    def run(self, sent: Sequence[Array], into: Array, placed: Array | None) -> None:  # noqa: ARG002
        """Make the FP32 tensors `into`, C-contiguous, of the signals sent, both with rows in front."""
        raw = sent[0]
        for row in range(len(raw)):
            self._run_one(raw[row], into[row])
        for constants in self._plan.ranges:
            self._limit(into.reshape((len(raw), -1), copy=False), *constants)

    def warm(self) -> None:
        """Run every kernel once, on silence of the shortest length."""
        samples, *channels = self._raw.shape
        if samples == -1:
            samples = self._samples_min
        silence = np.zeros((1, samples, *channels), self._raw.datatype.numpy)
        self.run([silence], np.empty(self.shape([silence]), np.float32), None)

    def _run_one(self, raw: Array, into: Array) -> None:
        if raw.dtype != np.float32:
            raw = cast_into(raw, self._scratch.take(raw.shape))
        samples = np.require(raw, requirements=("C", "A")).reshape(len(raw), -1)
        if self._blocks is None:
            out = into if into.ndim == 2 else into[:, None]
            self._scale(samples, out, *self._plan.samples, self._plan.transposed)
            return
        for channel in range(samples.shape[1]):
            self._blocks.run(samples, channel, into if into.ndim == 2 else into[channel])


class _Blocks:
    """The kernels of a framed signal, run over blocks of frames."""

    def __init__(self, plan: SignalPlan, frame: Frame) -> None:
        self._plan, self._frame = plan, frame
        self._window, self._scales = window_of(frame), np.array([*plan.samples, *plan.frames])
        self._size, self._bins = frame.length, 0
        if plan.spectrum is not None:
            self._size = frame.length if plan.spectrum.size is None else plan.spectrum.size
            self._bins = self._size // 2 + 1
        self._mel = None if plan.mel is None else mel_filters(plan.mel, self._size)
        self._rows = max(BLOCK_VALUES // self._size, 1)
        self._cut_frames, self._measured, self._summed = (Scratch(np.float64) for _ in range(3))
        self._transformed = Scratch(np.complex128)
        self._compile()

    def _compile(self) -> None:
        samples, values, made = reads(np.float32, 2), reads(np.float64, 2), writes(np.float64, 2)
        constants, scale = reads(np.float64, 1), (DOUBLE, DOUBLE)
        where = (INTEGER, INTEGER, FLAG)
        self._cut = compiled(cut_frames, samples, INTEGER, made, constants, *where, constants)
        self._measure = compiled(measure_bins, values, made, FLAG, *scale)
        self._sum = compiled(sum_bands, values, made, constants, reads(np.int64, 2), *scale)
        self._finish = compiled(finish, values, writes(np.float32, 2), INTEGER, FLAG, *scale)

    def shape(self, samples: int) -> tuple[int, int]:
        """Frames and their width, made of one channel of so many samples."""
        if self._plan.mel is not None:
            return self._frame.count(samples), self._plan.mel.mels
        return self._frame.count(samples), self._bins or self._size

    def run(self, samples: Array, channel: int, out: Array) -> None:
        """Fill `out`, FP32 (frames, width) or transposed, from one channel of `samples`."""
        count, _ = self.shape(len(samples))
        with np.errstate(all="ignore"):  # NaN and infinities come out as such
            for first in range(0, count, self._rows):
                values = self._values(samples, channel, first, min(self._rows, count - first))
                self._finish(values, out, first, self._plan.transposed, *self._plan.levels)

    def _values(self, samples: Array, channel: int, first: int, rows: int) -> Array:
        """FP64 (rows, width) of the frames from `first` on, before the last scale."""
        values = self._cut_frames.take((rows, self._size))
        start, mirrored = first * self._frame.hop - self._frame.padding, self._frame.mirrored
        self._cut(
            *(samples, channel, values, self._window),
            *(start, self._frame.hop, mirrored, self._scales),
        )
        if self._plan.spectrum is not None:
            transformed = self._transformed.take((rows, self._bins))
            np.fft.rfft(values, out=transformed)
            values, is_power = self._measured.take((rows, self._bins)), self._plan.is_power
            self._measure(transformed.view(np.float64), values, is_power, *self._plan.bins)
        if self._mel is not None:
            summed = self._summed.take((rows, len(self._mel[1])))
            self._sum(values, summed, *self._mel, *self._plan.mels)
            values = summed
        if self._plan.log is not None:
            np.maximum(values, self._plan.log.floor, out=values)
            np.add(values, self._plan.log.offset, out=values)
            np.log(values, out=values)
        return values
