"""Every kernel's function of scores, boxes and vectors in numba's CUDA simulator, beside plain Python: the same to the bit.

NUMBA_ENABLE_CUDASIM=1 python -m tests.gpu.simulated      prints how many kernels ran
"""

import os

from tests.gpu.catalogue import parts, tensors_of
from tests.gpu.threads import is_simulated, run_part


def main() -> None:
    """Run each part both ways."""
    assert is_simulated()
    names: set[str] = set()
    for part in parts(threads=4):
        functions = {source.function.__name__ for source in part.kernels()}
        if functions <= names:
            continue
        given = tensors_of(part)
        os.environ["NUMBA_ENABLE_CUDASIM"] = "1"
        simulated = run_part(part, given)
        del os.environ["NUMBA_ENABLE_CUDASIM"]
        plain = run_part(part, given)
        for name, array in plain.items():
            assert simulated[name].tobytes() == array.tobytes(), f"{type(part).__name__}: {name}"
        names |= functions
    print(f"{len(names)} kernels")


if __name__ == "__main__":
    main()
