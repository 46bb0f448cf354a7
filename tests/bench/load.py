"""A closed-loop load, as a process of its own: N callers, each sending its next request on the reply.

Prints one JSON object: requests, failures, seconds, p50_ms, p99_ms, client_cpu_seconds. Requests are
serialised once, so that the client costs as little as a Python client can.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

import grpc
import numpy as np

METHOD = "/inference.GRPCInferenceService/ModelInfer"


async def load(address: str, body: bytes, callers: int, seconds: float) -> dict[str, float]:
    """Keep `callers` requests in flight for `seconds`; replies are not decoded."""
    channels = [
        grpc.aio.insecure_channel(
            address,
            options=[("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)],
        )
        for _ in range(min(callers, 4))
    ]
    calls = [channel.unary_unary(METHOD) for channel in channels]
    await asyncio.gather(*(call(body) for call in calls))
    latencies: list[float] = []
    failures = 0
    began, cpu = time.perf_counter(), time.process_time()
    until = began + seconds

    async def caller(number: int) -> None:
        nonlocal failures
        call = calls[number % len(calls)]
        while (sent := time.perf_counter()) < until:
            try:
                await call(body)
            except grpc.aio.AioRpcError:
                failures += 1
            latencies.append(time.perf_counter() - sent)

    await asyncio.gather(*(caller(number) for number in range(callers)))
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    await asyncio.gather(*(channel.close() for channel in channels))
    p50, p99 = np.percentile(latencies, [50, 99]) * 1000
    return {
        "requests": len(latencies),
        "failures": failures,
        "seconds": took,
        "p50_ms": float(p50),
        "p99_ms": float(p99),
        "client_cpu_seconds": cpu,
    }


if __name__ == "__main__":
    address, body, callers, seconds = sys.argv[1:]
    result = asyncio.run(load(address, Path(body).read_bytes(), int(callers), float(seconds)))
    print(json.dumps(result))
