"""Signals against FP64 references: scipy's windows and transforms, mel filters written out here."""

import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import scipy.signal
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import RequestError
from appliance.fitting import trace
from appliance.recipe import (
    BeforeStep,
    Cast,
    Frame,
    InputRecipe,
    Log,
    Mel,
    Range,
    Recipe,
    Scale,
    Spectrum,
    Transpose,
)
from appliance.tensors import Array, DataType, Interface, TensorSpec, datatype_of
from runtime.kernels.chain import Chain
from runtime.kernels.spectra import mel_filters

U = 2.0**-24
FRAMES = st.builds(
    Frame,
    length=st.integers(1, 40),
    hop=st.integers(1, 50),
    window=st.sampled_from(["hann", "hamming", "rectangular"]),
    periodic=st.booleans(),
    centre=st.sampled_from(["none", "reflect", "zeros"]),
)
MELS = st.builds(
    Mel,
    rate=st.sampled_from([8000.0, 16000.0, 44100.0]),
    mels=st.integers(1, 60),
    low=st.sampled_from([0.0, 80.0, 1500.0]),
    high=st.sampled_from([None, 3800.0]),
    scale=st.sampled_from(["slaney", "htk"]),
    norm=st.sampled_from(["slaney", "none"]),
)


def chain_of(shape: tuple[int, ...], datatype: DataType, *steps: BeforeStep) -> Chain:
    raw = TensorSpec(name="sound", datatype=datatype, shape=shape)
    item = InputRecipe(feeds="x", raw=raw, steps=(Cast(), *steps))
    made = trace(item)[-1].spec
    taken = TensorSpec(name="x", datatype=DataType.FP32, shape=made.shape)
    engine = Interface(inputs=(taken,), outputs=(), batch_max=8)
    recipe = Recipe(inputs=(item,))
    chain = Chain(recipe, engine=engine)
    chain.warm()
    return chain


def run(chain: Chain, raw: Array) -> Array:
    into = np.empty(chain.prepared_shape({"sound": raw})["x"], np.float32)
    chain.before({"sound": raw}, {"x": into})
    return into


def prepared(raw: Array, *steps: BeforeStep) -> Array:
    """What the kernels make of signals (rows, samples) or (rows, samples, channels)."""
    datatype = datatype_of(raw.dtype)
    assert datatype is not None
    return run(chain_of(raw.shape[1:], datatype, *steps), raw)


def traced(raw: Array, *steps: BeforeStep) -> tuple[int, ...]:
    """The shape that fitting foretells."""
    spec = TensorSpec(name="sound", datatype=DataType.FP32, shape=raw.shape[1:])
    return trace(InputRecipe(feeds="x", raw=spec, steps=steps))[-1].spec.shape


def noise(samples: int, *more: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).normal(size=(1, samples, *more)).astype(np.float32)


def framed(signal: Array, step: Frame) -> Array:
    """Windowed frames of one FP64 signal, by numpy.pad and scipy's windows."""
    pad = step.length // 2 if step.centre != "none" else 0
    modes: dict[str, Any] = {"none": "constant", "zeros": "constant", "reflect": "reflect"}
    padded = np.pad(signal, pad, mode=modes[step.centre])
    name = {"rectangular": "boxcar"}.get(step.window, step.window)
    window = scipy.signal.get_window(name, step.length, fftbins=step.periodic)
    return np.lib.stride_tricks.sliding_window_view(padded, step.length)[:: step.hop] * window


def mel_weights(step: Mel, size: int) -> Array:
    """Each triangle from its corner points, as straight lines: (mels, bins)."""
    high = step.rate / 2 if step.high is None else step.high

    def to_mel(hertz: float) -> float:
        if step.scale == "htk":
            return 1127.0 * math.log1p(hertz / 700.0) * (2595 / math.log(10) / 1127.0)
        above = 15 + 27 * math.log(max(hertz, 1000) / 1000, 6.4)
        return above if hertz >= 1000 else hertz * 0.015

    def to_hertz(mel: float) -> float:
        if step.scale == "htk":
            return 700.0 * math.expm1(mel * math.log(10) / 2595)
        return 1000 * 6.4 ** ((mel - 15) / 27) if mel >= 15 else mel / 0.015

    mels = np.linspace(to_mel(step.low), to_mel(high), step.mels + 2)
    corners = [to_hertz(mel) for mel in mels]
    bins = np.arange(size // 2 + 1) * step.rate / size
    rows = []
    for left, top, right in zip(corners, corners[1:], corners[2:], strict=False):
        peak = 2 / (right - left) if step.norm == "slaney" else 1.0
        rows.append(np.interp(bins, [left, top, right], [0, peak, 0]))
    return np.array(rows)


def close(made: Array, wanted: Array, *, scale: float | None = None) -> None:
    """Equal to a rounding to FP32, and FP64's own errors beside values as large as `scale`."""
    largest = float(np.abs(wanted).max(initial=0.0)) if scale is None else scale
    assert made.shape == wanted.shape
    assert np.all(np.abs(made - wanted) <= U * np.abs(wanted) + 1e-12 * largest + 1e-300)


@given(step=FRAMES, extra=st.integers(0, 130), seed=st.integers(0, 99))
def test_frames(step: Frame, extra: int, seed: int) -> None:
    raw = noise(step.samples_min + extra, seed=seed)
    made = prepared(raw, step)
    assert made.shape[1:] == traced(raw, step)
    close(made[0], framed(raw[0].astype(np.float64), step))


@given(
    step=FRAMES,
    more=st.integers(0, 9),
    kind=st.sampled_from(["power", "magnitude"]),
    seed=st.integers(0, 99),
)
def test_spectra(step: Frame, more: int, kind: Any, seed: int) -> None:
    raw, size = noise(90, seed=seed), step.length + more
    frames = framed(raw[0].astype(np.float64), step)
    turns = np.outer(np.arange(size // 2 + 1), np.arange(step.length)) % size
    matrix = np.exp(-2j * np.pi * turns / size)
    wanted = np.abs(frames @ matrix.T)
    made = prepared(raw, step, Spectrum(kind=kind, size=size))[0]
    close(made, wanted**2 if kind == "power" else wanted)


def test_a_spectrum_is_scipys_short_time_transform() -> None:
    raw = noise(16000)
    _, _, transform = scipy.signal.stft(
        raw[0].astype(np.float64), nperseg=400, noverlap=240, nfft=512, padded=False
    )
    wanted = np.abs(transform) * scipy.signal.get_window("hann", 400).sum()
    steps = (Frame(length=400, hop=160, centre="zeros"), Spectrum(kind="magnitude", size=512))
    close(prepared(raw, *steps, Transpose())[0], wanted)


@given(step=MELS, size=st.sampled_from([200, 256, 401]), seed=st.integers(0, 99))
def test_mels(step: Mel, size: int, seed: int) -> None:
    raw, frame = noise(600, seed=seed), Frame(length=size, hop=100)
    power = np.abs(np.fft.rfft(framed(raw[0].astype(np.float64), frame))) ** 2
    wanted = power @ mel_weights(step, size).T
    made = prepared(raw, frame, Spectrum(), step)[0]
    # A bin on a filter's edge may count on either side of it with next to no weight.
    close(made, wanted, scale=float(power.max()))


def test_filters_peak_where_librosas_documentation_says() -> None:
    """The inner ones of librosa.mel_frequencies(n_mels=40), as its page prints them; bins of 1 Hz."""
    weights, reached = mel_filters(Mel(rate=22050, mels=38, norm="none"), 22050)
    printed = {0: 85.317, 10: 938.490, 11: 1024.856, 20: 2262.393, 37: 10096.408}
    for at, hertz in printed.items():
        first, behind, begin = reached[at]
        assert abs(first + weights[begin : begin + behind - first].argmax() - hertz) <= 0.5


def test_filters_are_librosas() -> None:
    """The first of librosa.filters.mel(sr=22050, n_fft=2048), as other ports of it are tested."""
    weights, reached = mel_filters(Mel(rate=22050, mels=128), 2048)
    first = [0.016182853208219942, 0.032365706416439884, 0.028990088037379964]
    np.testing.assert_allclose(weights[:3], first, rtol=1e-7)
    second = [0.009779235793639925, 0.025962089001859864, 0.035393705451959974]
    np.testing.assert_allclose(weights[4:7], second, rtol=1e-6)
    assert reached[:2].tolist() == [[1, 5, 0], [3, 8, 4]]


@pytest.mark.parametrize(
    ("base", "function"),
    [("natural", np.log), ("log10", np.log10), ("decibel", lambda x: 10 * np.log10(x))],
)
def test_logarithms(base: Any, function: Any) -> None:
    raw, frame = noise(640), Frame(length=64, hop=64)
    power = np.abs(np.fft.rfft(framed(raw[0].astype(np.float64), frame))) ** 2
    wanted = function(np.maximum(power, 0.3) + 0.25)
    made = prepared(raw, frame, Spectrum(), Log(base=base, floor=0.3, offset=0.25))[0]
    close(made, wanted, scale=100.0)


def test_scales_stand_anywhere() -> None:
    raw, frame = noise(640), Frame(length=64, hop=32, centre="zeros", window="hamming")
    mel = Mel(rate=8000, mels=20)
    made = prepared(
        raw,
        *(Scale(factor=2, shift=1), Scale(shift=-0.5), frame, Scale(factor=3, shift=0.125)),
        *(Spectrum(kind="magnitude"), Scale(factor=0.25, shift=1)),
        *(mel, Scale(factor=2, shift=0.5), Log(), Scale(factor=0.5, shift=4)),
    )[0]
    signal = raw[0].astype(np.float64) * 2 + 0.5
    frames = framed(signal, frame) * 3 + 0.125
    bins = np.abs(np.fft.rfft(frames)) * 0.25 + 1
    mels = bins @ mel_weights(mel, 64).T * 2 + 0.5
    close(made, np.log(mels) * 0.5 + 4, scale=100.0)


@pytest.mark.parametrize("channels", [1, 3])
def test_channels_come_first_and_are_signals_of_their_own(channels: int) -> None:
    raw = noise(500, channels)
    steps = (Frame(length=100, hop=50), Spectrum(), Mel(rate=8000, mels=12), Log())
    made = prepared(raw, *steps)
    assert made.shape == (1, channels, 9, 12)
    for channel in range(channels):
        np.testing.assert_array_equal(made[:, channel], prepared(raw[..., channel], *steps))
    assert made.shape[1:] == traced(raw, *steps)
    turned = prepared(raw, *steps, Transpose())
    assert turned.shape[1:] == traced(raw, *steps, Transpose())
    np.testing.assert_array_equal(turned, made.swapaxes(2, 3))


def test_a_range_is_of_the_whole_row() -> None:
    raw = np.concatenate([noise(400, 2), noise(400, 2) * np.float32(100)])
    levels = (Frame(length=50, hop=50), Spectrum(), Log(base="decibel"))
    plain = prepared(raw, *levels).astype(np.float64)
    made = prepared(raw, *levels, Range(below=20.0), Scale(factor=0.5, shift=1))
    largest = plain.max(axis=(1, 2, 3), keepdims=True)
    close(made, np.maximum(plain, largest - 20.0) * 0.5 + 1)
    assert largest[0] != largest[1]
    twice = prepared(raw, *levels, Range(below=30.0), Range(below=20.0))
    close(twice, np.maximum(plain, largest - 20.0))


def test_samples_as_integers_and_without_frames() -> None:
    raw = np.array([[-32768, 0, 16384]], np.int16)
    steps = (Scale(factor=1 / 32768),)
    assert prepared(raw, *steps).tolist() == [[-1.0, 0.0, 0.5]]
    stereo = np.arange(6, dtype=np.int16).reshape(1, 3, 2)
    made = prepared(stereo, Scale(factor=2.0, shift=1.0), Transpose())
    assert made.tolist() == [[[1, 5, 9], [3, 7, 11]]]


def test_long_signals_are_made_block_by_block() -> None:
    raw = noise(40_000)
    step = Frame(length=256, hop=64, centre="reflect")
    close(prepared(raw, step)[0], framed(raw[0].astype(np.float64), step))


def test_what_is_not_finite_stays_in_its_frames() -> None:
    raw = noise(400)
    steps = (Frame(length=100, hop=100), Spectrum(), Log())
    clean = prepared(raw, *steps)
    raw[0, 150] = np.nan
    assert np.isnan(prepared(raw, *steps, Range(below=9.0))).sum() == 51
    raw[0, 350] = np.inf
    made = prepared(raw, *steps)
    np.testing.assert_array_equal(made[0, [0, 2]], clean[0, [0, 2]])
    assert np.isnan(made[0, 1]).all()
    assert not np.isfinite(made[0, 3]).any()


OPEN = (Frame(length=100, hop=40, centre="reflect"), Spectrum(), Mel(rate=8000, mels=8), Log())


def test_an_open_length_gives_an_open_number_of_frames() -> None:
    chain = chain_of((-1,), DataType.INT16, *OPEN)
    for samples in (51, 400, 1000):
        raw = np.ones((2, samples), np.int16)
        assert run(chain, raw).shape == (2, 1 + samples // 40, 8)


@pytest.mark.parametrize("samples", [0, 1, 50])
def test_a_signal_too_short_for_a_frame_is_refused(samples: int) -> None:
    chain = chain_of((-1,), DataType.INT16, *OPEN)
    with pytest.raises(RequestError, match=f"has {samples} samples, the recipe needs 51"):
        chain.prepared_shape({"sound": np.zeros((1, samples), np.int16)})


def test_threads_share_one_chain() -> None:
    chain = chain_of((-1,), DataType.FP32, *OPEN)
    signals = [noise(600 + 50 * seed, seed=seed) for seed in range(8)]
    wanted = [run(chain, raw) for raw in signals]

    def same(at: int) -> bool:
        return all(np.array_equal(run(chain, signals[at]), wanted[at]) for _ in range(20))

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(same, range(8)))
