"""Steps of signals: [samples], or [samples, channels], until a frame step.

Knows: the signal steps and their parameters. Rules: see `step`; from the FP32 samples on everything is
computed in FP64 and rounded to FP32 once, at the end of the chain or where a step says so; each channel
is a signal of its own. Leaves to others: computing them (`runtime.kernels`).

A frame step makes [frames, length] of a signal, [channels, frames, length] of channels; spectrum and mel
turn its last axis into bins and mels. Windows, frames and mel filters are those of librosa 0.10 and
torch, of equal parameters.
"""

from typing import Annotated, Literal, TypeAlias

import msgspec

from appliance.recipe.step import Finite, PositiveInt, Step

Positive = Annotated[float, msgspec.Meta(gt=0.0, le=1e30)]
Frequency = Annotated[float, msgspec.Meta(ge=0.0, le=1e9)]
Rate = Annotated[float, msgspec.Meta(ge=1.0, le=1e9)]
MelCount = Annotated[int, msgspec.Meta(ge=1, le=1024)]


class Scale(Step, frozen=True, kw_only=True, tag="scale"):
    """y = x * factor + shift of every value, anywhere in a signal's chain but behind a transpose.

    In FP64. Samples of INT16 become -1 to 1 by a cast and a factor of 1 / 32768 = 0.000030517578125.
    """

    factor: Finite = 1.0
    shift: Finite = 0.0


class Frame(Step, frozen=True, kw_only=True, tag="frame"):
    """Cut a signal into windowed frames: y[t, i] = x[t * hop + i] * window[i], `length` samples each.

    [samples] becomes [frames, length], [samples, channels] becomes [channels, frames, length]; there are
    1 + (samples - length) // hop frames, samples counted with what `centre` adds.

    With N = `length`: hann 0.5 - 0.5 cos(2 pi i / N), hamming 0.54 - 0.46 cos(2 pi i / N), rectangular 1;
    `periodic = false` divides by N - 1 instead. `centre` puts N // 2 samples before and after the signal, so
    that frame t has its middle at t * hop: `reflect` mirrors it about its first and last sample, `zeros`
    adds silence. A last frame that is not full is dropped.
    """

    length: PositiveInt
    hop: PositiveInt
    window: Literal["hann", "hamming", "rectangular"] = "hann"
    periodic: bool = True
    centre: Literal["none", "reflect", "zeros"] = "none"

    @property
    def padding(self) -> int:
        """How many samples are put before and after the signal."""
        return 0 if self.centre == "none" else self.length // 2

    @property
    def mirrored(self) -> bool:
        """Whether the padding mirrors the signal."""
        return self.centre == "reflect"

    @property
    def samples_min(self) -> int:
        """The shortest signal that gives a frame and can be mirrored that far."""
        shortest = max(self.length - 2 * self.padding, 1)
        return max(shortest, self.padding + 1) if self.mirrored else shortest

    def count(self, samples: int) -> int:
        """How many frames a signal of `samples`, at least `samples_min`, gives."""
        return 1 + (samples + 2 * self.padding - self.length) // self.hop


class Spectrum(Step, frozen=True, kw_only=True, tag="spectrum"):
    """Per frame the |X[k]|**2 (`power`) or |X[k]| (`magnitude`) of its discrete Fourier transform.

    X[k] = sum over i of x[i] exp(-2 pi j i k / n) for k = 0 .. n // 2, without any scaling. n is `size`, the
    frame filled up with zeros, or the frame's length when left out. The last axis, of frames, becomes
    n // 2 + 1 bins. In FP64.
    """

    kind: Literal["power", "magnitude"] = "power"
    size: PositiveInt | None = None


class Mel(Step, frozen=True, kw_only=True, tag="mel"):
    """Sum a spectrum's bins under `mels` triangles, evenly spaced on the mel scale from `low` to `high`.

    y[t, m] = the sum over bins k of triangle m at bin k times x[t, k], in FP64; the last axis becomes `mels`.
    `rate` is the samples a second; `low` and `high` are Hz, `high` rate / 2 when left out. Bin k lies at
    k * rate / n Hz. With the edges f[0 .. mels + 1], triangle m rises from f[m] to f[m + 1] and falls to
    f[m + 2]: max(0, min((f - f[m]) / (f[m+1] - f[m]), (f[m+2] - f) / (f[m+2] - f[m+1]))). `slaney` norm times
    2 / (f[m+2] - f[m]). A triangle narrower than the bins' distance may be 0 throughout.

    Scale `htk`: mel = 2595 log10(1 + f / 700) (Young et al., The HTK Book). Scale `slaney` (Auditory Toolbox,
    Slaney 1998): mel = 3 f / 200 below 1000 Hz, above 15 + 27 ln(f / 1000) / ln(6.4).
    """

    rate: Rate
    mels: MelCount
    low: Frequency = 0.0
    high: Frequency | None = None
    scale: Literal["slaney", "htk"] = "slaney"
    norm: Literal["slaney", "none"] = "slaney"


class Log(Step, frozen=True, kw_only=True, tag="log"):
    """y = log(max(x, floor) + offset) of a spectrum or of mels, in FP64; NaN stays NaN.

    `base` is `natural`, `log10`, or `decibel` = 10 log10, which is meant for power.
    """

    base: Literal["natural", "log10", "decibel"] = "natural"
    floor: Positive = 1e-10
    offset: Annotated[float, msgspec.Meta(ge=0.0, le=1e30)] = 0.0


class Range(Step, frozen=True, kw_only=True, tag="range"):
    """y = max(x, largest - below), `largest` the largest value of the whole row, NaN left aside.

    x is rounded to FP32 before and y behind. What librosa's power_to_db calls top_db.
    """

    below: Positive


class Transpose(Step, frozen=True, kw_only=True, tag="transpose"):
    """Swap the last two axes: [frames, mels] to [mels, frames], or [samples, channels] to [channels, samples].

    The last of the signal steps; only a cast may follow.
    """


SignalStep: TypeAlias = Scale | Frame | Spectrum | Mel | Log | Range | Transpose
