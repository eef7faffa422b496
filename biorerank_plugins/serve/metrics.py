"""What a server counts, in Prometheus' form."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_PAIRS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 5_000)


class Metrics:
    """Counters of one server, in a registry of their own; ``waiting`` gives the pairs under way."""

    def __init__(self, waiting: Callable[[], float], ready: Callable[[], float]) -> None:
        self._registry = own = CollectorRegistry()
        ProcessCollector(registry=own)
        PlatformCollector(registry=own)
        GCCollector(registry=own)
        self.requests = Counter("biorerank_requests", "Requests answered.", ["path", "status"], registry=own)
        self.seconds = Histogram(
            "biorerank_request_seconds", "From the headers to the answer.", ["path"], buckets=_SECONDS, registry=own
        )
        self.open = Gauge("biorerank_open_requests", "Requests being read or answered.", registry=own)
        self.refused = Counter("biorerank_refused", "Requests refused.", ["reason"], registry=own)
        self.pairs = Counter("biorerank_scored_pairs", "Pairs scored; long texts count as several.", registry=own)
        self.size = Histogram("biorerank_request_pairs", "Pairs a request.", buckets=_PAIRS, registry=own)
        Gauge("biorerank_waiting_pairs", "Pairs under way.", registry=own).set_function(waiting)
        Gauge("biorerank_ready", "Whether requests are taken.", registry=own).set_function(ready)

    def page(self) -> bytes:
        """Return all of them as text."""
        return generate_latest(self._registry)
