"""One line of waiting requests, fair between clients. Pure.

Knows: who is next. Rules: clients take turns; a turn is one request, and a client whose request had more
than one row lets as many turns pass as it had rows more, so that rows are shared evenly, not requests.
A client's own requests of one key keep their order. A client that had nothing of the key asked for, or
nothing small enough, keeps its place, so that it is first in the next batch. A client who leaves the
line leaves its debt. Leaves to others: priorities, bounds, time (`waiting`).
"""

from collections import deque
from collections.abc import Hashable, Iterator
from itertools import chain
from operator import attrgetter

from runtime.batching.ticket import Ticket

TURNS_OWED_MAX = 64  # so that looking for the next client stays short

_number = attrgetter("number")


class Client:
    """What one client has waiting in a line, by key; `owed` turns are those it lets pass."""

    __slots__ = ("keyed", "name", "owed", "requests", "rows")

    def __init__(self, name: str) -> None:
        self.name = name
        self.keyed: dict[Hashable, deque[Ticket]] = {}
        self.requests = self.rows = self.owed = 0

    def oldest(self) -> Ticket:
        """The request that came first; there must be one."""
        if len(self.keyed) == 1:
            return next(iter(self.keyed.values()))[0]
        return min((waiting[0] for waiting in self.keyed.values()), key=_number)

    def newest(self) -> Ticket:
        """The request that came last; there must be one."""
        return max((waiting[-1] for waiting in self.keyed.values()), key=_number)

    def put(self, ticket: Ticket) -> None:
        """Add a request behind the others of its key."""
        waiting = self.keyed.get(ticket.key)
        if waiting is None:
            waiting = self.keyed[ticket.key] = deque()
        waiting.append(ticket)
        self.requests += 1
        self.rows += ticket.rows

    def remove(self, ticket: Ticket) -> None:
        """Take a request out; quick for the first of its key."""
        waiting = self.keyed[ticket.key]
        waiting.remove(ticket)
        if not waiting:
            del self.keyed[ticket.key]
        self.requests -= 1
        self.rows -= ticket.rows


class Line:
    """Requests that wait under one priority."""

    def __init__(self) -> None:
        self._clients: dict[str, Client] = {}
        self._turns: deque[Client] = deque()
        self.requests = self.rows = 0

    def put(self, ticket: Ticket) -> None:
        """Add a request; a client who had none waiting is the last to get its turn."""
        client = self._clients.get(ticket.client)
        if client is None:
            client = self._clients[ticket.client] = Client(ticket.client)
            self._turns.append(client)
        client.put(ticket)
        self.requests += 1
        self.rows += ticket.rows

    def remove(self, ticket: Ticket) -> None:
        """Take a request out, wherever it stands."""
        client = self._clients[ticket.client]
        self._count_out(client, ticket)
        if not client.requests:
            self._turns.remove(client)
            del self._clients[client.name]

    def next(self) -> Ticket:
        """The request whose turn it is; there must be one."""
        turns = self._turns
        while len(turns) > 1 and turns[0].owed:
            turns[0].owed -= 1
            turns.rotate(-1)
        return turns[0].oldest()

    def take(self, key: Hashable, room: int) -> list[Ticket]:
        """Take requests of `key`, by turns, while they fit into `room` rows."""
        turns, taken = self._turns, []
        kept: list[Client] = []
        while turns and room > 0:
            client = turns[0]
            waiting = client.keyed.get(key)
            if not waiting or waiting[0].rows > room:
                kept.append(turns.popleft())
            elif client.owed and len(turns) > 1:
                client.owed -= 1
                turns.rotate(-1)
            else:
                taken.append(waiting[0])
                room -= waiting[0].rows
                self.take_one(waiting[0])
        turns.extendleft(reversed(kept))
        return taken

    def take_one(self, ticket: Ticket) -> None:
        """Take a request of the client whose turn it is, and end the turn."""
        client, turns = self._turns[0], self._turns
        self._count_out(client, ticket)
        if not client.requests:
            turns.popleft()
            del self._clients[client.name]
        elif len(turns) > 1:
            client.owed = min(client.owed + ticket.rows - 1, TURNS_OWED_MAX)
            turns.rotate(-1)

    def ahead(self, client: str, rows: int) -> int:
        """About how many rows are answered before a further request of `rows` rows of `client`."""
        known = self._clients.get(client)
        if known is None:
            return min(self.rows, rows * len(self._turns))
        return min(self.rows, (known.rows + rows) * len(self._turns))

    def greediest(self) -> Client | None:
        """The client with the most requests waiting."""
        return max(self._turns, key=attrgetter("requests"), default=None)

    def requests_of(self, client: str) -> int:
        """How many requests of `client` wait."""
        known = self._clients.get(client)
        return known.requests if known else 0

    def __iter__(self) -> Iterator[Ticket]:
        for client in self._turns:
            yield from chain.from_iterable(client.keyed.values())

    def _count_out(self, client: Client, ticket: Ticket) -> None:
        client.remove(ticket)
        self.requests -= 1
        self.rows -= ticket.rows
