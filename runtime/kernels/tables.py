"""Table recipes as one pass: a short program of operations for each column that is made.

Knows: tables that are sent whole or column by column. Rules: texts become codes first, then one kernel
makes all columns; constants are rounded to FP32; an unknown category that must be known is refused by
column and value. Leaves to others: what the programs are (`table_programs`), running them
(`table_steps.run_table`).
"""

from collections.abc import Sequence
from itertools import repeat

import numpy as np

from appliance.errors import RequestError
from appliance.recipe import Accepts, InputRecipe
from appliance.tensors import Array
from runtime.kernels.compiled import compiled, reads, writes
from runtime.kernels.scratch import Scratch, cast_into
from runtime.kernels.table_programs import UNKNOWN, programs_of
from runtime.kernels.table_steps import run_table

SHOWN_CHARACTERS_MAX = 80


class TableProgram:
    """Tables of numbers and texts in, FP32 out; numbers that are not FP32 are cast first."""

    def __init__(self, item: InputRecipe) -> None:
        programs = programs_of(item)
        made = [*programs.columns, *programs.demands]
        operations = [operation for column in made for operation in column.operations]
        self._names, self._width = item.columns, len(programs.columns)
        self._by_column = item.accepts is Accepts.COLUMNS
        self._codes = programs.codes
        self._source = np.array([column.source for column in made], np.int64)
        self._first = np.cumsum([0, *(len(column.operations) for column in made)], dtype=np.int64)
        self._operation = np.array([kind for kind, _, _ in operations], np.int64)
        self._left = np.array([left for _, left, _ in operations], np.float32)
        self._right = np.array([right for _, _, right in operations], np.float32)
        table, indices, numbers = reads(np.float32, 2), reads(np.int64, 1), reads(np.float32, 1)
        made_table, unknown = writes(np.float32, 2), writes(np.int64, 1)
        self._kernel = compiled(
            run_table, table, made_table, *[indices] * 3, *[numbers] * 2, unknown
        )
        self._scratch, self._unknown = Scratch(), Scratch(np.int64)

    def shape(self, sent: Sequence[Array]) -> tuple[int, ...]:
        """The shape made of a table: one tensor (rows, raw columns), or (rows, 1) of each column."""
        return (len(sent[0]), self._width)

    def run(self, sent: Sequence[Array], into: Array, placed: Array | None) -> None:  # noqa: ARG002
        """Make the FP32 table `into`, C-contiguous, of what is sent.

        Raises RequestError naming column and value at a category that is not known and must be.
        """
        unknown = self._run_kernel(self._table(sent), into)
        if unknown[0] >= 0:
            raise self._refusal(sent, int(unknown[0]), int(self._source[unknown[1]]))

    def warm(self) -> None:
        """Run the kernel once, on a row of zeros, whether they are known categories or not."""
        row = np.zeros((1, len(self._names)), np.float32)
        self._run_kernel(row, np.empty((1, self._width), np.float32))

    def _run_kernel(self, table: Array, into: Array) -> Array:
        """Fill `into`; returns the row and the program that met an unknown category, or -1s."""
        unknown = self._unknown.take((2,))
        unknown[:] = -1
        self._kernel(
            table,
            into,
            self._source,
            self._first,
            self._operation,
            self._left,
            self._right,
            unknown,
        )
        return unknown

    def _table(self, sent: Sequence[Array]) -> Array:
        """What is sent as one FP32 table (rows, raw columns), C-contiguous, texts as their codes."""
        whole = not (self._by_column or self._codes)
        if whole and sent[0].dtype == np.float32:
            return np.require(sent[0], requirements=("C", "A"))
        table = self._scratch.take((len(sent[0]), len(self._names)))
        if whole:
            return cast_into(sent[0], table)
        with np.errstate(over="ignore", invalid="ignore"):
            for at, column in enumerate(self._columns(sent)):
                if column.dtype != np.object_:
                    table[:, at] = column
                elif at in self._codes:
                    codes = map(self._codes[at].get, column, repeat(UNKNOWN))
                    table[:, at] = np.fromiter(codes, np.float32, len(column))
        return table

    def _columns(self, sent: Sequence[Array]) -> Sequence[Array]:
        return [column[:, 0] for column in sent] if self._by_column else [*sent[0].T]

    def _refusal(self, sent: Sequence[Array], row: int, at: int) -> RequestError:
        value = self._columns(sent)[at][row]
        is_text = isinstance(value, bytes)
        shown = repr(value.decode(errors="replace")) if is_text else f"{value.item()}"
        if len(shown) > SHOWN_CHARACTERS_MAX:
            shown = f"{shown[:SHOWN_CHARACTERS_MAX]}..."
        return RequestError(
            f"column '{self._names[at]}' has the value {shown} in row {row}, "
            "which is none of the categories that the model knows",
            remedy="send a value that the model was trained on, or give the recipe's step "
            "another `unknown` than error",
        )


class Selection:
    """Columns picked from a table of any datatype, not cast; empty texts are imputed."""

    def __init__(self, item: InputRecipe) -> None:
        columns = programs_of(item).columns
        self._source = [column.source for column in columns]
        self._missing = [column.missing.encode() for column in columns]
        self._by_column = item.accepts is Accepts.COLUMNS

    def shape(self, sent: Sequence[Array]) -> tuple[int, ...]:
        """The shape made of a table: one tensor (rows, raw columns), or (rows, 1) of each column."""
        return (len(sent[0]), len(self._source))

    def run(self, sent: Sequence[Array], into: Array, placed: Array | None) -> None:  # noqa: ARG002
        """Copy the columns of what is sent into `into`."""
        for at, (source, missing) in enumerate(zip(self._source, self._missing, strict=True)):
            into[:, at] = sent[source][:, 0] if self._by_column else sent[0][:, source]
            if missing:
                into[into[:, at] == b"", at] = missing

    def warm(self) -> None:
        """Nothing is compiled here."""
