"""The chains that `kernels` measures, each beside hand-written code for the same result.

The hand-written variants are what a careful engineer would write with OpenCV, Pillow and numpy: buffers
made before, no copy that can be spared.
"""

import io
from collections.abc import Callable
from dataclasses import dataclass, field

import cv2
import numpy as np
from PIL import Image

from appliance.fitting import trace
from appliance.recipe import (
    BeforeStep,
    Cast,
    Decode,
    Impute,
    InputRecipe,
    Layout,
    Normalise,
    OneHot,
    Recipe,
    Resize,
    Softmax,
    Standardise,
    TopK,
)
from appliance.tensors import DataType, Interface, TensorSpec
from runtime.kernels.chain import Chain

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SCALE = (1 / 255 / np.array(STD)).astype(np.float32)
SHIFT = (-np.array(MEAN) / np.array(STD)).astype(np.float32)
ONE_LEVEL = 1.01 * float(SCALE.max())
NORMALISE = Normalise(mean=MEAN, std=STD, scale=1 / 255)
BOX_FILL = 114.0


@dataclass(frozen=True, slots=True)
class Case:
    """Our chain and the hand-written variants; each is called and gives its result."""

    name: str
    ours: Callable[[], np.ndarray]
    variants: dict[str, Callable[[], np.ndarray]]
    within: float = field(default=1e-4)


def cases() -> list[Case]:
    """All of them, on one picture."""
    y, x = np.mgrid[:480, :640]
    waves = np.sin(x / 9.0)[..., None] * np.cos(y / 7.0)[..., None] * 80 + 128
    noise = np.random.default_rng(1).normal(0, 6, (480, 640, 3))
    picture = np.clip(waves + noise, 0, 255).astype(np.uint8)
    return [
        resized("bilinear 224", picture, cv2.INTER_LINEAR, "bilinear"),
        resized("bicubic 224", picture, cv2.INTER_CUBIC, "bicubic"),
        letterboxed(picture),
        enlarged(picture),
        pillow("pillow bilinear 224", picture, "bilinear"),
        pillow("pillow bicubic 224", picture, "bicubic"),
        decoded(picture),
        table(),
        scores(),
    ]


def ours(sent: np.ndarray, *steps: BeforeStep) -> Callable[[], np.ndarray]:
    """Our chain for one image or file as a call, warm."""
    datatype = DataType.BYTES if sent.dtype == np.object_ else DataType.UINT8
    item = InputRecipe(
        feeds="x",
        raw=TensorSpec(name="image", datatype=datatype, shape=sent.shape[1:]),
        steps=steps,
    )
    made = trace(item)[-1].spec
    taken = TensorSpec(name="x", datatype=made.datatype, shape=made.shape)
    chain = warm(Recipe(inputs=(item,)), Interface(inputs=(taken,), outputs=(), batch_max=1))
    into = np.empty((1, *made.shape), made.datatype.numpy)

    def call() -> np.ndarray:
        chain.before({"image": sent}, {"x": into})
        return into[0]

    return call


def warm(recipe: Recipe, engine: Interface) -> Chain:
    """A chain with its kernels compiled."""
    chain = Chain(recipe, engine=engine)
    chain.warm()
    return chain


def finishes(height: int, width: int) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Ways to normalise a UINT8 picture and turn it to CHW, into buffers made before."""
    planes = [np.empty((height, width), np.uint8) for _ in range(3)]
    made = np.empty((3, height, width), np.float32)
    tables = (np.arange(256, dtype=np.float32)[:, None] * SCALE + SHIFT).T.copy()

    def split(image: np.ndarray) -> np.ndarray:
        cv2.split(image, planes)
        for c in range(3):
            np.multiply(planes[c], SCALE[c], out=made[c])
            np.add(made[c], SHIFT[c], out=made[c])
        return made

    def looked_up(image: np.ndarray) -> np.ndarray:
        cv2.split(image, planes)
        for c in range(3):
            cv2.LUT(planes[c], tables[c], dst=made[c])
        return made

    return {"split": split, "LUT": looked_up}


def resized(name: str, picture: np.ndarray, code: int, method: str) -> Case:
    """480 x 640 to 224 x 224, normalised, CHW."""
    small = np.empty((224, 224, 3), np.uint8)

    def variant(finish: Callable[[np.ndarray], np.ndarray]) -> Callable[[], np.ndarray]:
        return lambda: finish(cv2.resize(picture, (224, 224), dst=small, interpolation=code))

    steps = (Cast(), Resize(height=224, width=224, method=method), NORMALISE, Layout())
    variants = {name: variant(finish) for name, finish in finishes(224, 224).items()}
    return Case(name, ours(picture[None], *steps), variants, ONE_LEVEL)


def letterboxed(picture: np.ndarray) -> Case:
    """480 x 640 into 640 x 640 with a border, divided by 255, CHW."""
    made = np.empty((3, 640, 640), np.float32)
    planes = [np.empty((480, 640), np.uint8) for _ in range(3)]

    def banded() -> np.ndarray:
        made[:, :80] = made[:, 560:] = np.float32(BOX_FILL / 255)
        cv2.split(picture, planes)
        for c in range(3):
            np.multiply(planes[c], np.float32(1 / 255), out=made[c, 80:560])
        return made

    def bordered() -> np.ndarray:
        filled = cv2.copyMakeBorder(
            picture, 80, 80, 0, 0, cv2.BORDER_CONSTANT, value=(BOX_FILL,) * 3
        )
        return cv2.dnn.blobFromImage(filled, 1 / 255)[0]

    steps = (
        Cast(),
        Resize(height=640, width=640, fit="letterbox", fill=BOX_FILL),
        Normalise(mean=(0.0,), std=(1.0,), scale=1 / 255),
        Layout(),
    )
    variants = {"split": banded, "blob": bordered}
    return Case("letterbox 640", ours(picture[None], *steps), variants)


def enlarged(picture: np.ndarray) -> Case:
    """200 x 300 into 640 x 640 with a border, normalised, CHW."""
    part = np.ascontiguousarray(picture[:200, :300])
    wide, tall = 640, 427
    finish = finishes(tall, wide)
    made = np.empty((3, 640, 640), np.float32)
    border = (SCALE * np.float32(BOX_FILL) + SHIFT)[:, None, None]
    top = (640 - tall) // 2

    def variant(finishing: Callable[[np.ndarray], np.ndarray]) -> Callable[[], np.ndarray]:
        def call() -> np.ndarray:
            made[:, :top] = made[:, top + tall :] = border
            made[:, top : top + tall] = finishing(cv2.resize(part, (wide, tall)))
            return made

        return call

    steps = (
        Cast(),
        Resize(height=640, width=640, fit="letterbox", fill=BOX_FILL),
        NORMALISE,
        Layout(),
    )
    variants = {name: variant(each) for name, each in finish.items()}
    return Case("letterbox 200x300 to 640", ours(part[None], *steps), variants, ONE_LEVEL)


def pillow(name: str, picture: np.ndarray, method: str) -> Case:
    """480 x 640 to 224 x 224 with Pillow's antialias, to its last bit, then normalised, CHW."""
    filtering = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

    def variant(finish: Callable[[np.ndarray], np.ndarray]) -> Callable[[], np.ndarray]:
        def call() -> np.ndarray:
            image = Image.fromarray(picture).resize((224, 224), filtering[method])
            return finish(np.asarray(image))

        return call

    resize = Resize(height=224, width=224, method=method, like="pillow")
    steps = (resize, Cast(), NORMALISE, Layout())
    variants = {name: variant(finish) for name, finish in finishes(224, 224).items()}
    return Case(name, ours(picture[None], *steps), variants)


def decoded(picture: np.ndarray) -> Case:
    """A JPEG file of 480 x 640 to 224 x 224, normalised, CHW."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=90)
    data, split = file.getvalue(), finishes(224, 224)["split"]
    code = cv2.IMREAD_COLOR_RGB if hasattr(cv2, "IMREAD_COLOR_RGB") else cv2.IMREAD_COLOR

    def opencv() -> np.ndarray:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), code)
        return split(cv2.resize(image, (224, 224)))

    def with_pillow() -> np.ndarray:
        image = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
        return split(cv2.resize(image, (224, 224)))

    sent = np.empty((1, 1), np.object_)
    sent[0, 0] = data
    steps = (Decode(), Cast(), Resize(height=224, width=224), NORMALISE, Layout())
    variants = {"opencv": opencv, "pillow": with_pillow}
    return Case("jpeg, bilinear 224", ours(sent, *steps), variants, 4 * ONE_LEVEL)


def table() -> Case:
    """32 rows of 20 numbers: impute, standardise, one column to categories."""
    names = tuple(f"c{i}" for i in range(20))
    means, stds = tuple(0.1 * i for i in range(19)), tuple(1.0 + 0.1 * i for i in range(19))
    categories = (0.0, 1.0, 2.0, 3.0)
    item = InputRecipe(
        feeds="x",
        raw=TensorSpec(name="row", datatype=DataType.FP32, shape=(20,)),
        columns=names,
        steps=(
            Impute(values=dict.fromkeys(names[:5], 0.5)),
            Standardise(columns=names[:19], mean=means, std=stds),
            OneHot(column="c19", categories=categories),
        ),
    )
    taken = TensorSpec(name="x", datatype=DataType.FP32, shape=(23,))
    chain = warm(Recipe(inputs=(item,)), Interface(inputs=(taken,), outputs=(), batch_max=32))
    rng = np.random.default_rng(2)
    rows = rng.normal(size=(32, 20)).astype(np.float32)
    rows[:, 19] = rng.integers(0, 4, 32)
    rows[::7, 2] = np.nan
    into, made = np.empty((32, 23), np.float32), np.empty((32, 23), np.float32)
    mean, inverse = np.array(means, np.float32), (1 / np.array(stds)).astype(np.float32)
    known = np.array(categories, np.float32)

    def ours_call() -> np.ndarray:
        chain.before({"row": rows}, {"x": into})
        return into

    def numpy_call() -> np.ndarray:
        numbers = made[:, :19]
        np.copyto(numbers, rows[:, :19])
        first = numbers[:, :5]
        first[np.isnan(first)] = 0.5
        np.subtract(numbers, mean, out=numbers)
        np.multiply(numbers, inverse, out=numbers)
        np.equal(rows[:, 19:], known, out=made[:, 19:], casting="unsafe")
        return made

    return Case("table of 32 rows", ours_call, {"numpy": numpy_call})


def scores() -> Case:
    """Softmax and the five best of 1000 classes, 8 rows."""
    logits = np.random.default_rng(3).normal(0, 3, (8, 1000)).astype(np.float32)
    spec = TensorSpec(name="logits", datatype=DataType.FP32, shape=(1000,))
    recipe = Recipe(
        after=(
            Softmax(tensor="logits", output="p"),
            TopK(tensor="p", k=5, output="best", scores="shares"),
        )
    )
    chain = warm(recipe, Interface(inputs=(), outputs=(spec,), batch_max=8))

    def ours_call() -> np.ndarray:
        return chain.after({"logits": logits})["shares"]

    def numpy_call() -> np.ndarray:
        shares = np.exp(logits - logits.max(axis=1, keepdims=True))
        shares /= shares.sum(axis=1, keepdims=True)
        best = np.argpartition(shares, -5, axis=1)[:, -5:]
        chosen = np.take_along_axis(shares, best, axis=1)
        order = np.argsort(-chosen, axis=1)
        return np.take_along_axis(chosen, order, axis=1)

    return Case("softmax, top 5 of 1000", ours_call, {"numpy": numpy_call})
