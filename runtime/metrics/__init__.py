"""What the runtime counts, and how Prometheus reads it (a door).

Knows: the counters and their exposition. Rules: counting is a few additions under a lock; whatever can be
worked out is worked out when somebody asks. Leaves to others: when something is counted.
"""

from runtime.metrics.counts import (
    BatchCounts,
    Commits,
    Duration,
    Metrics,
    ModelCounts,
    Payloads,
    VersionCounts,
)
from runtime.metrics.exposition import MetricsServer, serve_metrics

__all__ = [
    "BatchCounts",
    "Commits",
    "Duration",
    "Metrics",
    "MetricsServer",
    "ModelCounts",
    "Payloads",
    "VersionCounts",
    "serve_metrics",
]
