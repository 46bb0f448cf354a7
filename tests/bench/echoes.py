"""The two echo servers that the transport is measured against: C++ and plain grpc.aio.

Knows: how the C++ one is built, into build/echo. Rules: without a compiler or headers it is left out with
one sentence that says what to install. Leaves to others: starting and loading them.
"""

import hashlib
import shutil
import subprocess
from pathlib import Path

from google.protobuf import descriptor_pb2
from tritonclient.grpc import model_config_pb2, service_pb2

SOURCE = Path(__file__).parent / "echo.cc"
BUILD = Path("build/echo")
INSTALL = "apt-get install g++ pkg-config libgrpc++-dev protobuf-compiler-grpc"
TOOLS = ("g++", "pkg-config", "protoc", "grpc_cpp_plugin")


def build() -> tuple[Path | None, str]:
    """The C++ server's program, and why there is none."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        return None, f"no C++ echo server: {missing[0]} is not installed; on Debian: {INSTALL}"
    descriptors = descriptor_set()
    digest = hashlib.sha256(SOURCE.read_bytes() + descriptors).hexdigest()[:16]
    program = (BUILD / f"echo-{digest}").absolute()
    if program.exists():
        return program, ""
    shutil.rmtree(BUILD, ignore_errors=True)
    BUILD.mkdir(parents=True)
    (BUILD / "protocol.set").write_bytes(descriptors)
    try:
        compile_into(program)
    except subprocess.CalledProcessError as error:
        said = (error.stderr or error.stdout).strip().splitlines()
        why = said[0] if said else str(error)
        return None, f"no C++ echo server: {why}; on Debian: {INSTALL}"
    return program, ""


def descriptor_set() -> bytes:
    """The protocol as protoc takes it, from the stubs that the field's clients use."""
    files = descriptor_pb2.FileDescriptorSet()
    for module in (model_config_pb2, service_pb2):
        module.DESCRIPTOR.CopyToProto(files.file.add())
    return files.SerializeToString(deterministic=True)


def compile_into(program: Path) -> None:
    """Generate the messages and compile. Raises CalledProcessError."""
    tool = shutil.which("grpc_cpp_plugin")
    names = ("grpc_service", "model_config")
    said(
        "protoc", "--descriptor_set_in=protocol.set", "--cpp_out=.", "--grpc_out=.",
        f"--plugin=protoc-gen-grpc={tool}", *(f"{name}.proto" for name in names),
    )  # fmt: skip
    flags = said("pkg-config", "--cflags", "--libs", "grpc++", "protobuf").split()
    sources = ["grpc_service.pb.cc", "grpc_service.grpc.pb.cc", "model_config.pb.cc"]
    said("g++", "-O2", "-std=c++17", "-I.", str(SOURCE), *sources, "-o", str(program), *flags)


def said(*command: str) -> str:
    """Run a tool in the build directory; returns what it printed. Raises CalledProcessError."""
    done = subprocess.run(command, cwd=BUILD, check=True, capture_output=True, text=True)
    return done.stdout
