"""A closed-loop load in Python, for where h2load is not installed: N callers, each sending on its last reply.

Arguments: address, a file with the message, callers, seconds, a log to write. The log is h2load's: start in
microseconds since the epoch, status (200 or -1), microseconds taken. Requests are serialised once, so that
the load costs as little as one in Python can.
"""

import asyncio
import sys
import time
from pathlib import Path

import grpc

METHOD = "/inference.GRPCInferenceService/ModelInfer"


async def load(address: str, body: bytes, callers: int, seconds: float) -> list[str]:
    """Keep `callers` requests in flight for `seconds`; replies are not decoded."""
    options = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(min(callers, 4))]
    calls = [channel.unary_unary(METHOD) for channel in channels]
    await asyncio.gather(*(call(body) for call in calls))
    lines: list[str] = []
    until = time.perf_counter() + seconds

    async def caller(number: int) -> None:
        call = calls[number % len(calls)]
        while (sent := time.perf_counter()) < until:
            wall, status = time.time_ns() // 1000, 200
            try:
                await call(body)
            except grpc.aio.AioRpcError:
                status = -1
            lines.append(f"{wall}\t{status}\t{round((time.perf_counter() - sent) * 1e6)}\n")

    await asyncio.gather(*(caller(number) for number in range(callers)))
    await asyncio.gather(*(channel.close() for channel in channels))
    return lines


if __name__ == "__main__":
    address, body, callers, seconds, log = sys.argv[1:]
    found = asyncio.run(load(address, Path(body).read_bytes(), int(callers), float(seconds)))
    Path(log).write_text("".join(found))
