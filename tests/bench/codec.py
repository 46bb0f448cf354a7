"""Decode and encode of one request: the codec beside protobuf, as a stock servicer uses it.

Run alone, or from `run.py`. One thread, no server; both sides take turns in every round, and the ratio of a
round is protobuf's time by ours.
"""

import statistics
import timeit
from collections.abc import Callable
from functools import partial

import numpy as np
from tritonclient.grpc import service_pb2 as oip

from appliance.tensors import DataType, Interface, TensorSpec
from runtime.codec import decode, wanted_outputs
from runtime.codec.encoding import encode
from runtime.codec.outputs import raw_tensors

SIZES = {"16 floats": (16,), "49 KB": (3, 64, 64), "602 KB": (3, 224, 224)}
SCORES = TensorSpec(name="scores", datatype=DataType.FP32, shape=(10,))
INTERFACE = Interface(inputs=(), outputs=(SCORES,), batch_max=8)
ANSWER = {"scores": np.linspace(0, 1, 10, dtype=np.float32).reshape(1, 10)}
ROUNDS = 15
CALLS = 2000


def request(shape: tuple[int, ...]) -> bytes:
    """One image of ones, as a stock client sends it."""
    message = oip.ModelInferRequest(model_name="digits", id="request-1")
    message.inputs.add(name="image", datatype="FP32", shape=[1, *shape])
    message.raw_input_contents.append(np.ones(shape, np.float32).tobytes())
    return message.SerializeToString()


def ours(message: bytes) -> bytes:
    """From the message to the reply by the codec."""
    asked = decode(message, peer="ipv4:127.0.0.1:1", new_id=str)
    asked.arrays(asked.heads())
    return encode(asked.call, version=1, outputs=raw_tensors(WANTED, ANSWER))


def protobuf(message: bytes) -> bytes:
    """The same by protobuf, without any of the codec's checks."""
    asked = oip.ModelInferRequest.FromString(message)
    tensor = asked.inputs[0]
    np.frombuffer(asked.raw_input_contents[0], np.float32).reshape(tuple(tensor.shape))
    reply = oip.ModelInferResponse(model_name=asked.model_name, model_version="1", id=asked.id)
    for name, array in ANSWER.items():
        reply.outputs.add(name=name, datatype="FP32", shape=array.shape)
        reply.raw_output_contents.append(array.tobytes())
    return reply.SerializeToString()


WANTED = wanted_outputs(decode(request((1,)), peer="", new_id=str).call, INTERFACE)


def run(rounds: int = ROUNDS) -> dict[str, dict[str, float]]:
    """By size: microseconds a call of both, the best round's, and the median of the rounds' ratios."""
    return {name: _measured(request(shape), rounds) for name, shape in SIZES.items()}


def _measured(message: bytes, rounds: int) -> dict[str, float]:
    assert ours(message) == protobuf(message)
    sides: dict[str, Callable[[], bytes]] = {
        "ours": partial(ours, message),
        "protobuf": partial(protobuf, message),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            times[name].append(timeit.timeit(side, number=CALLS) / CALLS * 1e6)
    ratios = [theirs / own for theirs, own in zip(times["protobuf"], times["ours"], strict=True)]
    return {name: min(each) for name, each in times.items()} | {"ratio": statistics.median(ratios)}


def show(report: dict[str, dict[str, float]]) -> None:
    """Print one line a size."""
    print(f"{'request':>10} {'ours us':>9} {'protobuf us':>12} {'ratio':>7}")
    for name, row in report.items():
        print(f"{name:>10} {row['ours']:9.1f} {row['protobuf']:12.1f} {row['ratio']:7.2f}")


if __name__ == "__main__":
    show(run())
