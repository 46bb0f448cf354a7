"""Messages as stock clients make them, and the codec asked about them."""

from tritonclient.grpc import service_pb2 as oip

from appliance.errors import RequestError
from runtime.codec import decode


def request_with(raw: list[bytes] = (), **tensors: tuple[str, list[int]]):
    """A ModelInferRequest to model "m" with inputs of these datatypes and shapes."""
    request = oip.ModelInferRequest(model_name="m", raw_input_contents=raw)
    for name, (datatype, shape) in tensors.items():
        request.inputs.add(name=name, datatype=datatype, shape=shape)
    return request


def decoded(request, **options):
    """The request as the codec reads it from the wire, or from bytes that need not be one."""
    message = request if isinstance(request, bytes) else request.SerializeToString()
    return decode(message, peer="ipv4:127.0.0.1:1", new_id=lambda: "made", **options)


def arrays(request, **options):
    """The input arrays by name."""
    reading = decoded(request, **options)
    return reading.arrays(reading.heads())


def seen(message: bytes) -> object:
    """All that can be seen of `message`, comparable; or the text of the refusal."""
    try:
        reading = decoded(message)
    except RequestError as error:
        return str(error)
    try:
        found = reading.arrays(reading.heads())
    except RequestError as error:
        return reading.call, str(error)
    told = [
        (n, a.dtype, a.shape, a.tolist() if a.dtype == object else a.tobytes())
        for n, a in found.items()
    ]
    return reading.call, list(reading.heads().items()), told
