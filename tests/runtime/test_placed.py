"""Boxes come back in the pixels of the image that each client sent, whoever shares its batch."""

import numpy as np
import pytest

from appliance.recipe import (
    Cast,
    Crop,
    Drop,
    InputRecipe,
    Layout,
    Normalise,
    Recipe,
    RescaleBoxes,
    Resize,
)
from appliance.tensors import DataType, Interface, TensorSpec
from runtime.kernels.chain import Chain
from runtime.kernels.vector import DriftVector
from runtime.kernels.vector_fit import fit_layout
from runtime.servable import Servable

PIXELS = TensorSpec(name="pixels", datatype=DataType.FP32, shape=(1, 16, 16))
BOXES = TensorSpec(name="found", datatype=DataType.FP32, shape=(2, 4))
FOUND = np.array([[0, 0, 16, 16], [4, 4, 8, 12]], np.float32)


class Finding:
    """An engine that finds the same two boxes in every image."""

    kind = "fake"

    def __init__(self, batch_max):
        self.interface = Interface(inputs=(PIXELS,), outputs=(BOXES,), batch_max=batch_max)

    def run(self, inputs):
        rows = len(inputs["pixels"]) if self.interface.batch_max else 0
        return {"found": np.repeat(FOUND[None], rows, axis=0) if rows else FOUND.copy()}

    def close(self):
        pass


def servable(fit, batch_max=4):
    photo = TensorSpec(name="photo", datatype=DataType.UINT8, shape=(-1, -1, 1))
    crop = Crop(height=16, width=16, top=2, left=4)
    steps = (
        Cast(),
        crop if fit == "crop" else Resize(height=16, width=16, fit=fit),
        Normalise(mean=(0.0,), std=(255.0,)),
        Layout(),
    )
    recipe = Recipe(
        inputs=(InputRecipe(feeds="pixels", raw=photo, steps=steps),),
        after=(
            RescaleBoxes(tensor="found", image="pixels", output="boxes"),
            Drop(tensors=("found",)),
        ),
    )
    engine = Finding(batch_max)
    zeros = np.zeros((2, 1, 16, 16), np.float32)
    outputs = np.stack([FOUND, FOUND]) if batch_max else FOUND
    layout = fit_layout(
        recipe,
        engine.interface,
        {"pixels": zeros if batch_max else zeros[0]},
        {"found": outputs},
    )
    chain = Chain(recipe, engine=engine.interface)
    return Servable(engine=engine, chain=chain, vector=DriftVector(layout))


def photos(rows, height, width):
    return {"photo": np.zeros((rows, height, width, 1), np.uint8)}


def test_requests_of_one_batch_keep_their_own_image():
    wide, tall = servable("letterbox").run([photos(1, 20, 40), photos(2, 32, 8)])
    assert list(wide.outputs) == ["boxes"]
    # 40 x 20 becomes 16 x 8 with 4 rows above: x * 2.5, (y - 4) * 2.5.
    np.testing.assert_allclose(wide.outputs["boxes"], [[[0, 0, 40, 20], [10, 0, 20, 20]]])
    # 8 x 32 becomes 4 x 16 with 6 columns to the left: (x - 6) * 2, y * 2.
    np.testing.assert_allclose(tall.outputs["boxes"], [[[0, 0, 8, 32], [0, 8, 4, 24]]] * 2)


def test_a_stretched_image_has_two_scales():
    (answer,) = servable("stretch").run([photos(1, 32, 8)])
    np.testing.assert_allclose(answer.outputs["boxes"], [[[0, 0, 8, 32], [2, 8, 4, 24]]])


def test_a_crop_lies_where_it_was_cut():
    (answer,) = servable("crop").run([photos(1, 18, 30)])
    np.testing.assert_allclose(answer.outputs["boxes"], [[[4, 2, 20, 18], [8, 6, 12, 14]]])


def test_an_unbatched_model_knows_its_image_too():
    (answer,) = servable("letterbox", batch_max=0).run([{"photo": photos(1, 20, 40)["photo"][0]}])
    np.testing.assert_allclose(answer.outputs["boxes"], [[0, 0, 40, 20], [10, 0, 20, 20]])


@pytest.mark.parametrize("batch_max", [4, 0])
def test_a_proof_completes_outputs_as_a_request_would(batch_max):
    ours = servable("letterbox", batch_max)
    request = photos(1, 20, 40)
    request = request if batch_max else {"photo": request["photo"][0]}
    engine, served = ours.answered(request)
    completed = ours.completed(request, engine)
    np.testing.assert_array_equal(completed["boxes"], served["boxes"])
    assert served["boxes"].max() == 40
