"""Checks the tiles and subtrees of a file against its records, as they are read.

Knows: what a tile and a subtree must say. Rules: one that is missing, false or over is named by the first record
it is about; a search that trusted it would have missed records. Leaves to others: the records themselves
(`audit.verify`).
"""

from appliance.audit.pages import count_records, subtree_rows
from appliance.audit.schema import Row, broken, said
from appliance.audit.tiles import TILE_RECORDS, Tile
from appliance.audit.tree import Frontier
from appliance.database import Database


class TileCheck:
    """The tiles of one file, whose records begin at `first`; a file of format 1 has none."""

    def __init__(self, database: Database, first: int) -> None:
        self._database = database
        self._tile = Tile(first // TILE_RECORDS)
        self._checked = database.format > 1

    def add(self, row: Row, frontier: Frontier) -> None:
        """Take in the next record; `frontier` is the tree's after it. Raises AuditBroken at a tile's end."""
        self._tile.add(*said(row))
        if frontier.size % TILE_RECORDS:
            return
        if self._checked:
            self._check(frontier)
        frontier.completed.clear()
        self._tile = Tile(self._tile.number + 1)

    def finish(self) -> None:
        """Raise AuditBroken when the file has a tile of records that it has not: a search would end there."""
        if not self._checked:
            return
        connection = self._database.connection
        # The tiles first: a writer that goes on meanwhile adds records before it adds their tile.
        last = connection.execute("SELECT max(number) FROM tile").fetchone()[0]
        if last is not None and (last + 1) * TILE_RECORDS > count_records(connection):
            raise broken(last * TILE_RECORDS, "a tile tells of records that the file has not")

    def _check(self, frontier: Frontier) -> None:
        number, first = self._tile.number, self._tile.number * TILE_RECORDS
        found = self._database.connection.execute(
            "SELECT number, wall_min, wall_max, words FROM tile WHERE number = ?", (number,)
        ).fetchone()
        if found != self._tile.row():
            raise broken(first, "the tile that it is found by does not fit its records")
        for level, place, root in frontier.completed:
            if subtree_rows(self._database, level, place, place + 1) != [(level, place, root)]:
                raise broken(first, f"the subtree hash of level {level} over it does not fit")
