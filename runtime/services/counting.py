"""ModelStatistics: what was counted of each version since the process started.

Knows: which counter goes into which field (Triton's statistics extension). Rules: the figures of one version
are read together, so that they agree; what no model here does (a response cache, decoupled replies) stays
empty. Leaves to others: counting (`runtime.metrics`).
"""

import asyncio
from typing import Any

from tritonclient.grpc import service_pb2 as oip

from appliance.errors import RequestError, UnknownModel, UnknownVersion, VersionNotServed
from runtime.metrics import BatchCounts, Duration, Metrics, VersionCounts
from runtime.services.found import found
from runtime.swap import ServedTable


class Counting:
    """ModelStatistics."""

    def __init__(self, *, table: ServedTable, metrics: Metrics) -> None:
        self._table = table
        self._metrics = metrics

    async def ModelStatistics(self, request: Any, context: Any) -> Any:
        """Counts and times since start, of one model or all, of one version or all loaded."""
        if request.name:
            names = [request.name]
        else:
            deployments = await asyncio.to_thread(self._table.deployments)
            names = [deployment.model for deployment in deployments]
        reply = oip.ModelStatisticsResponse()
        for name in names:
            for version in await self._versions(name, request.version, named=bool(request.name)):
                await self._add(reply, name, version)
        return reply

    async def _versions(self, model: str, requested: str, *, named: bool) -> list[int]:
        """The versions asked about. RequestError when a model that was `named` has none of them."""
        loaded = self._table.loaded(model)
        if requested:
            try:
                return [(await found(self._table, model, requested)).number]
            except (UnknownModel, UnknownVersion, VersionNotServed):
                loaded = []
        if named and not loaded:
            version = f", version {requested}" if requested else ""
            raise RequestError(
                f"requested model '{model}'{version} is not available",
                remedy="see RepositoryIndex for what is loaded",
            )
        return loaded

    async def _add(self, reply: Any, model: str, version: int) -> None:
        try:
            stored = await found(self._table, model, str(version))
        except (UnknownModel, UnknownVersion, VersionNotServed):
            return  # it went while the others were read
        entry = reply.model_stats.add(name=model, version=str(version))
        counts = self._metrics.model(model).version(version)
        with counts.lock:
            _fill(entry, counts)
        memory = stored.record.proof.memory_bytes
        if memory is not None:
            entry.memory_usage.add(type="CPU", id=0, byte_size=memory)


def _fill(entry: Any, counts: VersionCounts) -> None:
    entry.last_inference = counts.last_wall_ms
    entry.inference_count = counts.rows
    entry.execution_count = round(counts.batches)
    for name, duration in (
        ("success", counts.success),
        ("fail", counts.fail),
        ("queue", counts.queue),
        ("compute_input", counts.compute_input),
        ("compute_infer", counts.compute_infer),
        ("compute_output", counts.compute_output),
    ):
        _set(getattr(entry.inference_stats, name), duration)
    for size, batch in sorted(counts.by_batch.items()):
        _add_batch(entry.batch_stats.add(batch_size=size), size, batch)


def _add_batch(entry: Any, size: int, batch: BatchCounts) -> None:
    executions = batch.executions(size)
    for name, row_ns in (
        ("compute_input", batch.input_row_ns),
        ("compute_infer", batch.infer_row_ns),
        ("compute_output", batch.output_row_ns),
    ):
        _set(getattr(entry, name), Duration(executions, row_ns // size))


def _set(message: Any, duration: Duration) -> None:
    message.count, message.ns = duration.count, duration.ns
