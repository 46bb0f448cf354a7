"""What has to be configured before a port may be bound.

Knows: loopback addresses, and what any other one demands. Rules: refused at start, in words, never served
half open. Leaves to others: binding (`runtime.transport.listening`).
"""

import ipaddress

from appliance.access import read_tokens
from appliance.clock import Clock
from appliance.config import Config, split_address
from appliance.errors import ConfigError


def is_loopback(host: str) -> bool:
    """Whether `host` (IPv6 in brackets or bare) can be reached from this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False  # a name: what it stands for may change


def is_open(config: Config) -> bool:
    """Whether callers need show nothing: on loopback, unless certificates or the settings ask for it."""
    host, _ = split_address(config.server.address)
    return config.access.open_on_loopback and not config.server.tls.client_ca and is_loopback(host)


def check_access(config: Config, clock: Clock) -> None:
    """Raise ConfigError unless the addresses may be bound as configured; StateError for the tokens' list."""
    address, tls = config.server.address, config.server.tls
    host, _ = split_address(address)
    if not is_loopback(host) and not tls.certificate:
        raise ConfigError(
            f"[server] address {address} can be reached from other machines, and there is no TLS",
            remedy="set [server.tls] certificate and key (`holdfast ca issue` makes them), "
            "or listen on 127.0.0.1",
        )
    if not (is_open(config) or tls.client_ca or _tokens_hold(config, clock)):
        raise ConfigError(
            f"nobody could be answered on {address}: clients have neither certificates nor tokens",
            remedy="set [server.tls] client_ca, or issue a token (`holdfast token issue NAME`)",
        )
    metrics = config.metrics.address
    if metrics and not is_loopback(split_address(metrics)[0]):
        raise ConfigError(
            f"[metrics] address {metrics} can be reached from other machines",
            remedy="listen on 127.0.0.1 and let an agent on this machine pass the metrics on",
        )


def _tokens_hold(config: Config, clock: Clock) -> bool:
    now = clock.wall_ns()
    return any(token.holds(now) for token in read_tokens(config.state.tokens))
