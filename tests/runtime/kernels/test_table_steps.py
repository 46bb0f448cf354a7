"""The table kernel compiled gives what the same function gives as plain Python."""

import numpy as np

from runtime.kernels import table_steps as steps
from runtime.kernels.compiled import compiled, reads, writes

F, INDEX = np.float32, np.int64
TABLE = np.array([[1.0, np.nan], [4.0, 2.0], [-0.5, 9.0]], F)
# One line a program: the raw column, then its operations with their operands.
PROGRAMS = [
    (1, [(steps.FILL, 5.0, 0.0), (steps.STANDARDISE, 1.0, 3.0)]),
    (0, [(steps.EQUALS, 4.0, 0.0)]),
    (0, []),
    (0, [(steps.ATLEAST, 0.0, 0.0), (steps.ATMOST, 3.0, 0.0)]),
    (1, [(steps.ATLEAST, 3.0, 0.0), (steps.ATMOST, 8.0, 0.0)]),
    (0, [(steps.LOG1P, 0.0, 0.0)]),
    (1, [(steps.SEEK, 7.0, 0.0), (steps.MATCH, 2.0, 0.5), (steps.KEEP, 0.0, 0.0)]),
    (1, [(steps.DEMAND, 0.0, 0.0)]),  # beyond the columns: only demands
]


def test_compiled_and_plain() -> None:
    operations = [operation for _, program in PROGRAMS for operation in program]
    given = (
        np.array([source for source, _ in PROGRAMS]),
        np.cumsum([0, *(len(program) for _, program in PROGRAMS)]),
        np.array([kind for kind, _, _ in operations]),
        np.array([left for _, left, _ in operations], F),
        np.array([right for _, _, right in operations], F),
    )
    plain, machine = np.zeros((3, 7), F), np.zeros((3, 7), F)
    unknown, unknown_too = np.full(2, -1), np.full(2, -1)
    steps.run_table(TABLE, plain, *given, unknown)
    kernel = compiled(
        steps.run_table,
        *(reads(F, 2), writes(F, 2), *[reads(INDEX, 1)] * 3, *[reads(F, 1)] * 2),
        writes(INDEX, 1),
    )
    kernel(TABLE, machine, *given, unknown_too)
    np.testing.assert_array_equal(machine, plain)
    assert unknown.tolist() == unknown_too.tolist() == [0, 7]
    wanted = [
        [4 / 3, 0, 1, 1, np.nan, np.log(2), 7],
        [1 / 3, 1, 4, 3, 3, np.log(5), 0.5],
        [8 / 3, 0, -0.5, 0, 8, np.log(0.5), 7],
    ]
    np.testing.assert_allclose(machine, wanted, rtol=1e-6)
