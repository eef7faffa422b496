"""What OpenTelemetry costs a call: the same calls with spans and metrics going to an SDK, and to nobody, in turns.

pip install opentelemetry-sdk
python -m benchmarks.speed.telemetry --out benchmarks/results/telemetry.json
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from statistics import median

from benchmarks.common import machine, parser_of, write_result
from biorerank_plugins import BioReranker, telemetry

RESULT = "telemetry.json"
KEYS = ("machine", "calls", "passages_a_call", "median_ms", "overhead")

QUERY = "Which drug reverses dabigatran?"
TEXTS = [f"Passage {number}: idarucizumab reverses dabigatran within minutes." for number in range(20)]


def main() -> None:
    from opentelemetry.metrics import NoOpMeterProvider
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
    from opentelemetry.trace import NoOpTracerProvider

    class Nowhere(SpanExporter):
        def export(self, spans: object) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    parser = parser_of(__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--calls", type=int, default=30, help="a round")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    tracing = TracerProvider()
    tracing.add_span_processor(BatchSpanProcessor(Nowhere()))
    providers = {
        "nobody": (NoOpTracerProvider(), NoOpMeterProvider()),
        "sdk": (tracing, MeterProvider([InMemoryMetricReader()])),
    }
    took: dict[str, list[float]] = {name: [] for name in providers}
    with BioReranker() as reranker:
        reranker.rank(QUERY, TEXTS)
        for _ in range(options.rounds):
            for name, (tracers, meters) in providers.items():
                telemetry.configure(tracers, meters)
                for _ in range(options.calls):
                    start = time.perf_counter()
                    reranker.rank(QUERY, TEXTS)
                    took[name].append(time.perf_counter() - start)
    tracing.shutdown()
    medians = {name: 1e3 * median(times) for name, times in took.items()}
    result = {
        "machine": machine(),
        "calls": options.rounds * options.calls,
        "passages_a_call": len(TEXTS),
        "median_ms": {name: round(value, 3) for name, value in medians.items()},
        "overhead": round(medians["sdk"] / medians["nobody"] - 1, 4),
    }
    print(json.dumps(result, indent=2))
    write_result(options.out, result, KEYS)


if __name__ == "__main__":
    main()
