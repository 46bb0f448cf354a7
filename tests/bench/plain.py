"""A plain grpc.aio servicer that answers ModelInfer with its own input: what serving in Python costs as it comes.

Written as grpcio's own examples are: generated stubs, protobuf objects, no options but the message size.
Prints its port.
"""

import asyncio

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc


class Echo(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Echoes one raw input."""

    async def ModelInfer(self, request, context):
        """The input as output "y"."""
        head = request.inputs[0]
        reply = service_pb2.ModelInferResponse(
            model_name=request.model_name,
            model_version="1",
            raw_output_contents=[request.raw_input_contents[0]],
        )
        reply.outputs.add(name="y", datatype=head.datatype, shape=head.shape)
        return reply


async def main() -> None:
    """Serve until killed."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Echo(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(main())
