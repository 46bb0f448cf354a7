"""Connections to the control socket, each with the person behind it.

Knows: how a Unix connection is passed on to gRPC, which has no word for who made it. Rules: the kernel says
who that is, asked once when the connection is made; on its way inside each has an abstract name (unix(7)) of random
bits that nobody can guess and that never comes back, so that a call is known by its peer, a late one too; a call
that came another way has nobody behind it. Leaves to others: what a person may (`runtime.access`).
"""

import asyncio
import secrets
import socket
from contextlib import suppress
from pathlib import Path

from appliance import journal
from runtime.access import Person, person_behind

# Of the box, and of one account, so that nobody keeps the others out.
CONNECTIONS_MAX, CONNECTIONS_EACH_MAX = 64, 16
CHUNK_BYTES = 1 << 16


class Relay:
    """Passes what comes on the socket `outer` on to the one at `inner`."""

    def __init__(self, outer: socket.socket, inner: Path) -> None:
        """`outer` is bound and does not listen yet."""
        self._outer, self._inner = outer, inner
        self._people: dict[str, Person] = {}
        self._passing: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        """Begin to listen."""
        self._server = await asyncio.start_unix_server(self._connected, sock=self._outer)

    async def stop(self) -> None:
        """Cut every connection."""
        if self._server is None:
            self._outer.close()
            return
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        if self._passing:
            await asyncio.wait(self._passing)

    def person(self, peer: str) -> Person | None:
        """Who made the connection that gRPC calls `peer`; None for one that did not come through here."""
        return self._people.get(peer)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._passing.add(task)
        task.add_done_callback(self._passing.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The life of one connection."""
        self._writers.add(writer)
        try:
            person = person_behind(writer.get_extra_info("socket"))
            if self._has_room(person):
                await self._pass_on(person, reader, writer)
            else:
                journal.event("control.full", connections=len(self._people), user=person.name)
        except OSError as error:
            journal.failure("control.connection", error)
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    def _has_room(self, person: Person) -> bool:
        """Whether one more connection of `person` is taken."""
        own = sum(other.uid == person.uid for other in self._people.values())
        return len(self._people) < CONNECTIONS_MAX and own < CONNECTIONS_EACH_MAX

    async def _pass_on(
        self, person: Person, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        behind = socket.socket(socket.AF_UNIX)
        behind.settimeout(0)
        own = f"holdfast-{secrets.token_hex(16)}"
        behind.bind(b"\0" + own.encode())
        name = f"unix-abstract:{own}"
        self._people[name] = person
        try:
            await asyncio.get_running_loop().sock_connect(behind, str(self._inner))
            back, forth = await asyncio.open_unix_connection(sock=behind)
            self._writers.add(forth)
            try:
                await asyncio.gather(_pump(reader, forth), _pump(back, writer))
            finally:
                self._writers.discard(forth)
                forth.transport.abort()
        finally:
            del self._people[name]
            behind.close()


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    """Pass on what comes until either side ends, then end the other."""
    with suppress(ConnectionError):
        while chunk := await source.read(CHUNK_BYTES):
            sink.write(chunk)
            await sink.drain()
    # HTTP/2 has no half-open connection: what ends one way ends both.
    sink.close()
