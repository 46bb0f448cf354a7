"""The traced child, made once."""

from collections.abc import Iterator

import pytest

from tests.simulation.tracing import Child, build_shim, compiler


@pytest.fixture(scope="session")
def child(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Child]:
    """A child that runs workloads under the shim; skipped where there is no C compiler."""
    if compiler() is None:
        pytest.skip("there is no C compiler (cc), which the tracing of calls needs")
    with Child(build_shim(tmp_path_factory.mktemp("shim"))) as started:
        yield started
