"""Both inference clients behind one face, and a server that answers from a script."""

import asyncio
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import grpc
import pytest
from tritonclient.grpc import service_pb2 as oip
from tritonclient.grpc import service_pb2_grpc as stubs

from runtime.client import AsyncInferenceClient, InferenceClient


class Steps:
    """Time that passes only by sleeping; notes every sleep, in seconds."""

    def __init__(self):
        self.slept = []
        self._now_ns = 0

    def wall_ns(self):
        return self._now_ns

    def monotonic_ns(self):
        return self._now_ns

    def sleep(self, seconds):
        self.slept.append(seconds)
        self._now_ns += round(seconds * 1e9)

    async def async_sleep(self, seconds):
        self.sleep(seconds)


class Refused:
    """One scripted refusal; `initial` is sent as a beginning of the answer."""

    def __init__(self, status, details="refused", trailing=(), initial=()):
        self.status = status
        self.details = details
        self.trailing = trailing
        self.initial = initial


class Scripted(stubs.GRPCInferenceServiceServicer):
    """Answers ModelInfer with the next of `answers`: a Refused, a reply, or a function of the request.

    With nothing left it echoes the inputs. Notes requests and metadata.
    """

    def __init__(self):
        self.answers = deque()
        self.trailing = ()
        self.requests = []
        self.metadata = []
        self.deadlines = []
        self.stream = None
        self.left = threading.Event()

    def ModelInfer(self, request, context):
        self.requests.append(request)
        self.metadata.append(dict(context.invocation_metadata()))
        self.deadlines.append(context.time_remaining())
        answer = self.answers.popleft() if self.answers else echo
        if isinstance(answer, Refused):
            self.refuse(answer, context)
        context.set_trailing_metadata(self.trailing)
        return answer(request) if callable(answer) else answer

    def refuse(self, refused, context):
        if refused.initial:
            context.send_initial_metadata(refused.initial)
        context.set_trailing_metadata(refused.trailing)
        context.abort(refused.status, refused.details)

    def ModelStreamInfer(self, requests, context):
        yield from self.stream(requests, context)

    def ModelReady(self, request, context):
        if self.answers:
            self.refuse(self.answers.popleft(), context)
        return oip.ModelReadyResponse(ready=request.name == "m" and request.version != "2")

    def ServerReady(self, request, context):
        return oip.ServerReadyResponse(ready=True)


def echo(request):
    reply = oip.ModelInferResponse(model_name=request.model_name, model_version="7", id=request.id)
    for tensor in request.inputs:
        reply.outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    reply.raw_output_contents.extend(request.raw_input_contents)
    return reply


class Blocking:
    """An AsyncInferenceClient whose calls wait, so that one test drives both clients."""

    def __init__(self, address, **options):
        self._runner = asyncio.Runner()

        async def made():
            return AsyncInferenceClient(address, **options)

        with ExitStack() as stack:
            stack.callback(self._runner.close)
            self.client = self.wait(made())
            stack.pop_all()

    def wait(self, awaitable):
        async def waited():
            return await awaitable

        return self._runner.run(waited())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.wait(self.client.close())
        self._runner.close()

    def __getattr__(self, name):
        method = getattr(self.client, name)
        return lambda *given, **named: self.wait(method(*given, **named))

    def stream(self, *given, **named):
        answers = self.client.stream(*given, **named)
        try:
            while True:
                yield self.wait(anext(answers))
        except StopAsyncIteration:
            return
        finally:
            self.wait(answers.aclose())


@pytest.fixture(params=["waiting", "awaited"])
def connect(request, steps):
    """Makes a client of either kind, with a clock that stands still and chance at its middle."""
    with ExitStack() as stack:

        def connected(address, **options):
            kind, sleep = (
                (InferenceClient, steps.sleep)
                if request.param == "waiting"
                else (Blocking, steps.async_sleep)
            )
            given = {"clock": steps, "sleep": sleep, "uniform": lambda: 0.5} | options
            return stack.enter_context(kind(address, **given))

        yield connected


@pytest.fixture
def steps():
    """The clients' clock."""
    return Steps()


@pytest.fixture
def serve():
    """Serves a Scripted at an address and returns it; `secret` is the server's credentials."""
    with ExitStack() as stack:

        def serving(address, secret=None, options=()):
            scripted = Scripted()
            pool = stack.enter_context(ThreadPoolExecutor(4))
            server = grpc.server(pool, options=options)
            stubs.add_GRPCInferenceServiceServicer_to_server(scripted, server)
            port = (
                server.add_secure_port(address, secret)
                if secret
                else server.add_insecure_port(address)
            )
            server.start()
            stack.callback(lambda: server.stop(0).wait())
            stack.callback(scripted.left.set)
            scripted.port = port
            return scripted

        yield serving


@pytest.fixture
def address(tmp_path):
    """A Unix socket that nobody listens on yet."""
    return f"unix:{tmp_path}/s"


@pytest.fixture
def script(serve, address):
    """The scripted server behind `client`."""
    return serve(address)


@pytest.fixture
def client(script, connect, address):
    """A client of either kind at the scripted server."""
    return connect(address)
