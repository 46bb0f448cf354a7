"""Which requests are traced, and where their traces go (a door).

Knows: traces in the journal, as the protocol's trace settings ask for, and traces as OpenTelemetry spans.
Rules: the libraries for spans are an extra, looked for only when there is an endpoint. Leaves to others:
taking the times.
"""

from appliance.config import TracesConfig
from appliance.errors import ConfigError
from runtime.traces.sampling import NO_LIMIT, Metadata, Trace, Traces, TraceSettings

__all__ = ["NO_LIMIT", "Metadata", "Trace", "TraceSettings", "Traces", "open_traces"]

EXTRA = "otel"


def open_traces(config: TracesConfig, *, service: str) -> Traces:
    """The traces of a runtime called `service`; close them when the last request has ended.

    Raises ConfigError when the endpoint is no URL, or when there is one and the extra is not installed.
    """
    if not config.endpoint:
        return Traces()
    if not config.endpoint.startswith(("http://", "https://")):
        raise ConfigError(
            f"[traces] endpoint '{config.endpoint}' is not a URL",
            remedy="write http://host:port, as http://127.0.0.1:4317",
        )
    try:
        from runtime.traces.spans import open_spans  # noqa: PLC0415 - megabytes, for who wants them
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("opentelemetry"):
            raise
        raise ConfigError(
            f"[traces] endpoint is set, but the extra '{EXTRA}' is not installed: {error}",
            remedy=f"install holdfast[{EXTRA}], or leave the endpoint empty",
        ) from error
    return Traces(open_spans(config.endpoint, service=service), config)
