"""The peers: servers of others on the same models, each with the best settings that its documentation gives.

Knows: how each is configured and started from its side environment, and which engine ours chose for a model,
which every peer gets too. Rules: a peer that is not there or does not come up is `Absent`, with the reason;
each delay and each number of instances is told beside its figures. Leaves to others: the environments
(`environments`), the loads.
"""

import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import onnx
from environments import ENVIRONMENTS, Environment
from models import MODELS
from replies import References, WrongReply, target
from servers import READY_SECONDS_MAX, Server, free_port, running
from states import HERE, STORE

from appliance.store import Store

PROGRAMS = HERE / "peers"
GRPC_MODELS = ("mlp", "cnn", "resnet50")
# A picture of 602 KB is three megabytes of JSON: nobody would serve it so.
JSON_MODELS = ("mlp", "cnn")
DELAY_US = 1000
Starting = Callable[[Path, Path], AbstractContextManager[Server]]


class Absent(Exception):
    """A peer that cannot be measured here; the text says why."""


def chosen(folder: Path, names: tuple[str, ...], *, instances: bool) -> dict[str, dict]:
    """The settings of each model that was built: its file, the engine ours chose, threads, instances.

    Two instances of one thread where the peer can have `instances`, else one on both cores; the tiny model
    is faster on one.
    """
    store, found = Store(folder.parent / "state" / STORE), {}
    for name in names:
        path = folder / f"{name}.onnx"
        if not path.exists():
            continue
        model, graph = MODELS[name], onnx.load(path, load_external_data=False).graph
        output = graph.output[0]
        many = 2 if instances and name != "mlp" else 1
        shape = [axis.dim_value for axis in output.type.tensor_type.shape.dim[1:]]
        found[name] = {
            "path": str(path),
            "kind": store.describe(name, 1).record.engine.kind,
            "instances": many,
            "threads": 1 if many == 2 or name == "mlp" else os.cpu_count() or 1,
            "batch": model.batch_max,
            "tensor": model.tensor,
            "shape": list(model.shape),
            "output": output.name,
            "output_shape": shape,
        }
    return found


def environment_of(name: str) -> Environment:
    """The side environment. Raises Absent when it was not made."""
    found = ENVIRONMENTS[name]
    if not found.ready:
        raise Absent(f"{name} is not installed here: make bench-peers")
    return found


@contextmanager
def started(
    name: str,
    command: list[object],
    root: Path,
    folder: Path,
    models: dict[str, dict],
    *,
    port: int,
    settings: str,
    variables: dict[str, str] | None = None,
    json_path: str = "",
    headline: bool = True,
) -> Iterator[Server]:
    """Run a peer and wait until it answers every model rightly. Raises Absent."""  # fmt: skip
    log, began = root / f"{name}.log", time.perf_counter()
    environment = {
        "BENCH_MODELS": json.dumps(models),
        "PYTHONPATH": str(PROGRAMS),
        "OMP_NUM_THREADS": "1",
        **(variables or {}),
    }
    with running(command, log, environment=environment, directory=root) as process:
        server = Server(
            name=name, address=f"127.0.0.1:{port}", process=process, settings=settings,
            models=frozenset(models), headline=headline,
            peer=True,
            json_path={each: json_path.format(each) for each in models} if json_path else {},
        )  # fmt: skip
        references, until = References(folder), time.monotonic() + READY_SECONDS_MAX
        for model in models:
            while True:
                try:
                    target(server, MODELS[model], references)
                    break
                except WrongReply as error:
                    if process.poll() is not None or time.monotonic() > until:
                        last = log.read_text(errors="replace").strip().splitlines()[-1:]
                        raise Absent(f"{error}; its log ends: {' '.join(last)[:300]}") from error
                time.sleep(0.1)
        server.started_s = time.perf_counter() - began
        yield server


def triton(name: str, delay_us: int) -> Starting:
    """The tritonserver of PyTriton's wheel, its Python backend used directly."""

    @contextmanager
    def starting(folder: Path, root: Path) -> Iterator[Server]:
        side = environment_of("pytriton")
        packages = next((side.directory / "lib").glob("python3*")) / "site-packages"
        home = packages / "pytriton" / "tritonserver"
        workspace = root / f"triton-{delay_us}"
        models = chosen(folder, GRPC_MODELS, instances=True)
        backends = workspace / "backends"
        shutil.copytree(home / "backends", backends)
        series = packages.parent.name.removeprefix("python")
        stub = home / "python_backend_stubs" / series / "triton_python_backend_stub"
        shutil.copy(stub, backends / "python")
        for model, settings in models.items():
            version = workspace / "models" / model / "1"
            version.mkdir(parents=True)
            shutil.copy(PROGRAMS / "triton_model.py", version / "model.py")
            shutil.copy(PROGRAMS / "onnx_engine.py", version)
            (version.parent / "config.pbtxt").write_text(triton_config(model, settings, delay_us))
        port = free_port()
        command = [
            home / "bin" / "tritonserver", f"--model-repository={workspace / 'models'}",
            f"--backend-directory={backends}", "--allow-http=false", "--allow-metrics=false",
            "--grpc-address=127.0.0.1", f"--grpc-port={port}",
        ]  # fmt: skip
        variables = {
            "LD_LIBRARY_PATH": str(packages / "nvidia_pytriton.libs"),
            "PYTHONPATH": f"{PROGRAMS}:{packages}",
            "PATH": f"{side.python.parent}:{os.environ['PATH']}",
        }
        told = f"Python backend, queue delay {delay_us / 1000:g} ms, 1 instance (mlp) or 2 of one thread"
        with started(
            name, command, root, folder, models, port=port, settings=told, variables=variables
        ) as server:
            yield server

    return starting


def triton_config(model: str, settings: dict, delay_us: int) -> str:
    """Triton's config.pbtxt of a model."""

    def tensor(name: str, shape: list[int]) -> str:
        return f'[{{ name: "{name}" data_type: TYPE_FP32 dims: {shape} }}]'

    return (
        f'name: "{model}"\nbackend: "python"\nmax_batch_size: {settings["batch"]}\n'
        f"input {tensor(settings['tensor'], settings['shape'])}\n"
        f"output {tensor(settings['output'], settings['output_shape'])}\n"
        f"dynamic_batching {{ max_queue_delay_microseconds: {delay_us} }}\n"
        f"instance_group [{{ count: {settings['instances']} kind: KIND_CPU }}]\n"
    )


@contextmanager
def pytriton(folder: Path, root: Path) -> Iterator[Server]:
    """PyTriton with its batcher, no delay."""
    side, port = environment_of("pytriton"), free_port()
    models = chosen(folder, GRPC_MODELS, instances=False)
    command = [side.python, PROGRAMS / "pytriton_serve.py", port, free_port(), 0]
    variables = {"PYTRITON_HOME": str(root / "pytriton"), "PYTHONPATH": str(PROGRAMS)}
    told = "@batch, queue delay 0, one function on both cores (mlp: one thread)"
    with started(
        "PyTriton", command, root, folder, models, port=port, settings=told, variables=variables
    ) as server:
        yield server


@contextmanager
def mlserver(folder: Path, root: Path) -> Iterator[Server]:
    """MLServer in one process with adaptive batching."""
    side, port = environment_of("mlserver"), free_port()
    models = chosen(folder, GRPC_MODELS, instances=False)
    home = root / "mlserver"
    home.mkdir()
    settings = {
        "host": "127.0.0.1", "grpc_port": port, "http_port": free_port(), "metrics_endpoint": None,
        "metrics_port": free_port(), "parallel_workers": 0, "debug": False,
        "grpc_max_message_length": 1 << 28,
    }  # fmt: skip
    (home / "settings.json").write_text(json.dumps(settings))
    for model, found in models.items():
        (home / model).mkdir()
        own = {
            "name": model, "implementation": "mlserver_model.OnnxModel",
            "max_batch_size": min(found["batch"], 16), "max_batch_time": 0.002,
        }  # fmt: skip
        (home / model / "model-settings.json").write_text(json.dumps(own))
    command = [side.python.parent / "mlserver", "start", home]
    told = (
        "adaptive batching of 16 rows or 2 ms, in process, engine on both cores (mlp: one thread)"
    )
    with started("MLServer", command, root, folder, models, port=port, settings=told) as server:
        yield server


@contextmanager
def litserve(folder: Path, root: Path) -> Iterator[Server]:
    """LitServe, JSON over HTTP."""
    side, port = environment_of("litserve"), free_port()
    models = chosen(folder, JSON_MODELS, instances=True)
    told = "JSON over HTTP, fast_queue, batch timeout 2 ms, 2 workers"
    with started(
        "LitServe", [side.python, PROGRAMS / "litserve_app.py", port], root, folder, models,
        port=port, settings=told, json_path="/{}", headline=False,
    ) as server:  # fmt: skip
        yield server


@contextmanager
def bentoml(folder: Path, root: Path) -> Iterator[Server]:
    """BentoML, JSON over HTTP."""
    side, port = environment_of("bentoml"), free_port()
    models = chosen(folder, JSON_MODELS, instances=True)
    command = [
        side.python, "-m", "bentoml", "serve", "bento_service:Bench", "--port", port,
        "--host", "127.0.0.1", "--working-dir", PROGRAMS,
    ]  # fmt: skip
    told = "JSON over HTTP, batchable, at most 32 rows, 2 workers"
    variables = {"BENTOML_HOME": str(root / "bentoml"), "BENTOML_DO_NOT_TRACK": "True"}
    with started(
        "BentoML", command, root, folder, models, port=port, settings=told, json_path="/{}",
        headline=False, variables=variables,
    ) as server:  # fmt: skip
        yield server


TRITON, TRITON_DELAYED = "Triton (Python)", "Triton (Python), 1 ms"
PEERS: dict[str, Starting] = {
    TRITON: triton(TRITON, 0),
    TRITON_DELAYED: triton(TRITON_DELAYED, DELAY_US),
    "PyTriton": pytriton,
    "MLServer": mlserver,
    "LitServe": litserve,
    "BentoML": bentoml,
}
