"""What builders and configurations of `fake_tensorrt` do.

Knows: what TensorRT wants before it builds, and how it refuses. Rules: a plan is made of the model as parsed, with what the
configuration says. Leaves to others: plans at work (`fake_engines`), what a test plants (`fake_objects`).
"""

import hashlib
import json
from typing import Any

from tests.gpu.fake_engines import Plan
from tests.gpu.fake_objects import World
from tests.gpu.fake_parsing import Network
from tests.gpu.fake_types import dimensions


class Builder:
    """Makes networks, configurations, profiles and plans."""

    def __init__(self, world: World, logger: Any) -> None:
        self.world, self.logger = world, logger
        self.error_recorder: Any = None
        self.max_threads = 1

    def create_network(self, flags: int = 0) -> Any:
        """Flags are bits; a bit that this release does not know is an error."""
        kind = self.world.classes["NetworkDefinitionCreationFlag"]  # type: ignore[attr-defined]
        known = {name: 1 << int(member) for name, member in kind.__members__.items()}
        assert not int(flags) & ~sum(known.values()), f"unknown flags {flags}"
        typed = (
            bool(int(flags) & known["STRONGLY_TYPED"]) or self.world.release.split(".")[0] == "11"
        )
        return self.world.make("INetworkDefinition", Network(self.world, typed))

    def create_builder_config(self) -> Any:
        """A configuration with the library's defaults."""
        return self.world.make("IBuilderConfig", BuilderConfig(self.world, self))

    def create_optimization_profile(self) -> Any:
        """An empty profile."""
        return self.world.make("IOptimizationProfile", Profile(self.world))

    def build_serialized_network(self, network: Any, config: Any) -> Any:
        """The plan, or None after an error was logged."""
        plan = _built(self, network._does, config._does)
        return None if plan is None else self.world.host(plan.as_bytes())

    def build_serialized_network_to_stream(self, network: Any, config: Any, writer: Any) -> bool:
        """The plan in two pieces to a writer; False after an error was logged."""
        plan = _built(self, network._does, config._does)
        data = plan.as_bytes() if plan else b""
        pieces = [data[: len(data) // 2], data[len(data) // 2 :]]
        return bool(data) and all(writer.write(piece) == len(piece) for piece in pieces)


def _built(builder: Builder, network: Network, config: "BuilderConfig") -> Plan | None:
    """The plan of a network, or None after its first error was logged."""
    world, model = builder.world, network.model
    assert model is not None, "nothing was parsed into this network"

    def refuse(text: str, code: str = "INTERNAL_ERROR") -> None:
        world.fail(builder.logger, builder.error_recorder, text, code)

    dynamic = [one.name for one in model.graph.input if -1 in dimensions(one)]
    ranges = [profile.shapes for profile in config.profiles]
    if world.build_fails is not None:
        return refuse(world.build_fails)
    if mixed := {"FP16", "BF16", "INT8", "FP8"} & config.set_flags if network.typed else set():
        return refuse(
            f"{sorted(mixed)} cannot be set on a strongly typed network.", "INVALID_CONFIG"
        )
    if missing := [name for name in dynamic if not ranges or name not in ranges[0]]:
        return refuse(
            f"Network has dynamic or shape inputs, but no optimization profile has been defined: {missing}",
            "INVALID_STATE",
        )
    if config.pools.get("WORKSPACE", 1 << 40) < world.workspace_needed:
        node = model.graph.node[0].name or model.graph.node[0].output[0]
        return refuse(f"Could not find any implementation for node {{ForeignNode[{node}]}}.")
    if not _told_progress(config.progress_monitor):
        return refuse("Build cancelled by the progress monitor.", "INVALID_STATE")
    known = hashlib.sha256(model.SerializeToString(deterministic=True)).hexdigest()
    config.timed.add(known)
    plan = Plan(
        release=world.release, version=world.version, gpu=world.gpu, capability=world.capability,
        compatibility=config.hardware_compatibility_level.name, flags=sorted(config.set_flags),
        profiles=ranges, verbosity=config.profiling_verbosity.name, typed=network.typed,
        arithmetic=world.arithmetic, onnx=model.SerializeToString(), linear=network.linear,
    )  # fmt: skip
    world.built.append(plan)
    return plan


def _told_progress(monitor: Any) -> bool:
    """Tell a monitor of two phases, one inside the other; False when it wants no more."""
    if monitor is None:
        return True
    monitor.phase_start("Building Engine", None, 2)
    going = True
    for step in range(2):
        monitor.phase_start("Timing", "Building Engine", 3)
        going = going and all(monitor.step_complete("Timing", inner) is True for inner in range(3))
        monitor.phase_finish("Timing")
        going = going and monitor.step_complete("Building Engine", step) is True
    monitor.phase_finish("Building Engine")
    return going


class BuilderConfig:
    """How to build."""

    def __init__(self, world: World, builder: Builder) -> None:
        self.world, self.builder = world, builder
        self.set_flags: set[str] = {"TF32"}
        self.pools: dict[str, int] = {}
        self.profiles: list[Profile] = []
        self.cache: Any = None
        self.timed: set[str] = set()
        self.builder_optimization_level = 3
        self.profiling_verbosity = world.member("ProfilingVerbosity", "LAYER_NAMES_ONLY")
        self.hardware_compatibility_level = world.member("HardwareCompatibilityLevel", "NONE")
        self.progress_monitor: Any = None
        self.max_aux_streams = -1
        self.avg_timing_iterations = 1

    @property
    def num_optimization_profiles(self) -> int:
        """How many were added."""
        return len(self.profiles)

    def set_flag(self, flag: Any) -> None:
        """Set it."""
        self.set_flags.add(flag.name)

    def clear_flag(self, flag: Any) -> None:
        """Clear it."""
        self.set_flags.discard(flag.name)

    def get_flag(self, flag: Any) -> bool:
        """Whether it is set."""
        return flag.name in self.set_flags

    def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
        """In bytes."""
        self.pools[pool.name] = int(pool_size)

    def get_memory_pool_limit(self, pool: Any) -> int:
        """In bytes."""
        return self.pools.get(pool.name, 1 << 34)

    def add_optimization_profile(self, profile: Any) -> int:
        """Its index, -1 when it has nothing."""
        if not profile._does.shapes:
            return -1
        self.profiles.append(profile._does)
        return len(self.profiles) - 1

    def create_timing_cache(self, serialized_timing_cache: Any) -> Any:
        """From bytes that `serialize` gave, or from none."""
        return self.world.make(
            "ITimingCache", TimingCache(self.world, bytes(serialized_timing_cache))
        )

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        """False, and a logged line, for a cache of another release or GPU."""
        told = cache._does.told
        if told and told != cache._does.here() and not ignore_mismatch:
            self.world.fail(
                self.builder.logger, self.builder.error_recorder,
                "CublasLt version or device mismatch of the timing cache", "INVALID_ARGUMENT",
            )  # fmt: skip
            return False
        self.cache, self.timed = cache, cache._does.entries
        return True

    def get_timing_cache(self) -> Any:
        """What was set, None when nothing was."""
        return self.cache


class TimingCache:
    """What was measured, bound to the release and the GPU."""

    def __init__(self, world: World, data: bytes) -> None:
        self.world = world
        found = json.loads(data) if data else {"here": None, "entries": []}
        self.told, self.entries = found["here"], set(found["entries"])

    def here(self) -> str:
        """What a cache of this box is bound to."""
        return f"{self.world.version} {self.world.gpu}"

    def serialize(self) -> Any:
        """Its bytes."""
        told = {"here": self.here(), "entries": sorted(self.entries)}
        return self.world.host(json.dumps(told).encode())

    def combine(self, input_cache: Any, ignore_mismatch: bool) -> bool:
        """Take over what another one knows."""
        self.entries |= input_cache._does.entries
        return True

    def reset(self) -> bool:
        """Forget all."""
        self.entries.clear()
        return True


class Profile:
    """Lowest, best and highest shapes by input."""

    def __init__(self, world: World) -> None:
        self.shapes: dict[str, list[tuple[int, ...]]] = {}

    def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002 - the library's names
        """Refused when they do not rise, as the library does."""
        low, best, high = (tuple(int(size) for size in shape) for shape in (min, opt, max))
        if not len(low) == len(best) == len(high) or not all(
            a <= b <= c for a, b, c in zip(low, best, high, strict=True)
        ):
            raise RuntimeError("Shape provided for max is inconsistent with other shapes.")
        self.shapes[input] = [low, best, high]

    def get_shape(self, input: str) -> list[tuple[int, ...]]:  # noqa: A002 - as above
        """Three shapes, or none."""
        return self.shapes.get(input, [])
