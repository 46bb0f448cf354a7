"""PyTriton: every model bound with its @batch decorator. Arguments: gRPC port, HTTP port, delay in microseconds."""

import sys

import numpy as np
import onnx_engine
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


def bound(name, settings):
    """The inference function of one model."""
    engine = onnx_engine.warm(name)

    @batch
    def infer(**inputs):
        return [engine.run(inputs[settings["tensor"]])]

    return infer


def main(port, http_port, delay):
    """Serve until killed."""
    config = TritonConfig(
        grpc_port=int(port), http_port=int(http_port), allow_metrics=False, grpc_address="127.0.0.1",
        http_address="127.0.0.1", log_verbose=0,
    )  # fmt: skip
    with Triton(config=config) as triton:
        for name, settings in onnx_engine.MODELS.items():
            triton.bind(
                model_name=name,
                infer_func=bound(name, settings),
                inputs=[Tensor(name=settings["tensor"], dtype=np.float32, shape=settings["shape"])],
                outputs=[
                    Tensor(
                        name=settings["output"], dtype=np.float32, shape=settings["output_shape"]
                    )
                ],
                config=ModelConfig(
                    max_batch_size=settings["batch"],
                    batcher=DynamicBatcher(max_queue_delay_microseconds=int(delay)),
                ),
            )
        triton.serve()


if __name__ == "__main__":
    main(*sys.argv[1:])
