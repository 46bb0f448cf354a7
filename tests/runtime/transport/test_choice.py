"""Which lane serves."""

import logging

import pytest

from appliance.config import ServerConfig
from runtime.transport import core, listen
from runtime.transport.fast import FastTransport
from runtime.transport.public import PublicTransport

LOCAL = ServerConfig(address="127.0.0.1:0")


async def test_the_installed_grpcio_is_among_the_tested():
    assert core.missing() == ""
    transport = listen(LOCAL)
    assert isinstance(transport, FastTransport)
    await transport.stop(0)


@pytest.mark.parametrize("lacks", ["release", "name"])
async def test_an_untested_grpcio_serves_by_the_public_lane(monkeypatch, caplog, lacks):
    if lacks == "release":
        monkeypatch.setattr(core, "TESTED_RELEASES", ("0.1",))
    else:
        monkeypatch.setitem(core._NAMES, core.cygrpc.Server, ("vanished",))
    with caplog.at_level(logging.INFO, logger="holdfast"):
        transport = listen(LOCAL)
    assert isinstance(transport, PublicTransport)
    (noted,) = [line for line in caplog.records if line.message == "transport.public"]
    assert "grpcio" in noted.fields["reason"]
    await transport.stop(0)
