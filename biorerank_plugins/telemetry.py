"""OpenTelemetry: spans and metrics where ``opentelemetry-api`` is installed, nothing where it is not.

No text of a query, a passage or an error message is ever given away: numbers, names of models and names of exceptions
are. Where data go is for the host to say, with the providers that it sets for the whole process, or only for this
package with :func:`configure`.

Spans, each below the one that was current in the caller (in a task too):

=========================  ==========================================================================================
``biorerank.search``       :class:`~biorerank_plugins.TwoStageSearch`: both stages
``biorerank.first_stage``  finding candidates
``biorerank.rank``         :class:`~biorerank_plugins.BioReranker`, ``rank``, ``rank_many`` and the awaitable ones
``biorerank.load``         loading the model, at its first use
``biorerank.windows``      finding where long passages have to be cut
``biorerank.tokenise``     texts become token ids and pairs
``biorerank.score``        waiting for the model, the queue included
``biorerank.evidence``     choosing sentences; it tokenises and scores by itself
=========================  ==========================================================================================

Metrics:

==============================  =====================================================================================
``biorerank.stage.duration``    seconds of each span; ``biorerank.stage`` says which, ``error.type`` how it failed
``biorerank.queue.duration``    seconds from pairs that are ready to the first batch that holds some of them
``biorerank.batch.tokens``      tokens of a batch, padding included where there is any
``biorerank.truncations``       passages that were cut, or whose query was: ``biorerank.truncated`` says which
``biorerank.cache.lookups``     ``biorerank.cache``: ``scores``; ``biorerank.hit``: found or not
``biorerank.fallbacks``         batches whose logits were not finite and were computed again in fp32
``biorerank.memory.halvings``   batches that did not fit into memory and were halved
==============================  =====================================================================================

>>> with stage("rank"):  # what the package does; there is nothing to call for its users
...     count("truncations", 0, truncated="passage")
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, ParamSpec, TypeAlias, TypeVar

from biorerank_plugins._common.forks import Lock
from biorerank_plugins._common.versions import VERSION
from biorerank_plugins.errors import require_extra

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

__all__ = ["configure", "count", "enabled", "note", "record", "stage", "staged"]

P = ParamSpec("P")
T = TypeVar("T")
Value: TypeAlias = str | bool | int | float
Counter: TypeAlias = Literal["truncations", "cache.lookups", "fallbacks", "memory.halvings"]
Histogram: TypeAlias = Literal["stage.duration", "queue.duration", "batch.tokens"]

_SCOPE = "biorerank_plugins"
_COUNTERS: Final[Mapping[Counter, tuple[str, str]]] = {
    "truncations": ("{passage}", "Passages that were cut, or whose query was"),
    "cache.lookups": ("{text}", "Scores that were looked for in a cache"),
    "fallbacks": ("{batch}", "Batches that were computed again in fp32"),
    "memory.halvings": ("{batch}", "Batches that were halved since memory ran out"),
}
# Bounds are advice to the SDK, whose own begin with 5 seconds and end with 10,000 tokens.
_SECONDS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_TOKENS = (64, 128, 256, 512, 1_024, 2_048, 4_096, 8_192, 16_384, 32_768, 65_536)
_HISTOGRAMS: Final[Mapping[Histogram, tuple[str, str, tuple[float, ...]]]] = {
    "stage.duration": ("s", "Time of a stage", _SECONDS),
    "queue.duration": ("s", "Time that pairs waited for their first batch", _SECONDS),
    "batch.tokens": ("{token}", "Tokens of a batch", _TOKENS),
}
_NOTHING: AbstractContextManager[None] = nullcontext()


class _Instruments(NamedTuple):
    trace: Any
    tracer: Any
    counters: Mapping[Counter, Any]
    histograms: Mapping[Histogram, Any]


_lock = Lock()
_instruments: _Instruments | None = None
_looked = False


def configure(tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None) -> None:
    """Send what this package tells to other providers than those of the process.

    :param tracer_provider: where spans go; ``None`` for the one of the process, also if it is set later.
    :param meter_provider: where metrics go; ``None`` likewise.
    :raises MissingExtraError: if ``opentelemetry-api`` is not installed.

    >>> configure(my_tracer_provider, my_meter_provider)  # doctest: +SKIP
    """
    global _instruments, _looked
    with _lock:
        with require_extra("otel"):
            _instruments = _made(tracer_provider, meter_provider)
        _looked = True


def enabled() -> bool:
    """Return whether ``opentelemetry-api`` is installed: only then is anything worth measuring."""
    return _found() is not None


def stage(name: str, **attributes: Value) -> AbstractContextManager[None]:
    """Let the body be a span and a measured duration.

    :param name: see the tables of this module, without the prefix.
    :param attributes: of the span; no text of anybody's.
    """
    found = _found()
    return _NOTHING if found is None else _measured(found, name, attributes)


def staged(name: str) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Let each call of a function be a :func:`stage`."""

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @functools.wraps(function)
        def inside(*args: P.args, **kwargs: P.kwargs) -> T:
            with stage(name):
                return function(*args, **kwargs)

        return inside

    return decorate


def note(**attributes: Value) -> None:
    """Put numbers or names on the span of the stage that is running."""
    found = _found()
    if found is not None:
        found.trace.get_current_span().set_attributes(_prefixed(attributes))


def count(name: Counter, amount: int = 1, **attributes: Value) -> None:
    """Add to a counter.

    :param name: which one.
    :param amount: how many; 0 does nothing.
    :param attributes: few different values each.
    """
    found = _found()
    if found is not None and amount:
        found.counters[name].add(amount, _prefixed(attributes))


def record(name: Histogram, value: float, **attributes: Value) -> None:
    """Add a value to a histogram.

    :param name: which one.
    :param value: seconds or tokens.
    :param attributes: few different values each.
    """
    found = _found()
    if found is not None:
        found.histograms[name].record(value, _prefixed(attributes))


@contextmanager
def _measured(found: _Instruments, name: str, attributes: Mapping[str, Value]) -> Iterator[None]:
    about: dict[str, Value] = {"biorerank.stage": name}
    # An exception's message may quote a passage: it is not recorded, only its type is.
    with found.tracer.start_as_current_span(
        f"biorerank.{name}", attributes=_prefixed(attributes), record_exception=False, set_status_on_exception=False
    ) as span:
        started = time.perf_counter()
        try:
            yield
        except BaseException as error:
            about["error.type"] = type(error).__qualname__
            span.set_attribute("error.type", about["error.type"])
            span.set_status(found.trace.StatusCode.ERROR)
            raise
        finally:  # inside of the span, so that an exporter can point from a duration to its trace
            found.histograms["stage.duration"].record(time.perf_counter() - started, about)


def _prefixed(attributes: Mapping[str, Value]) -> dict[str, Value]:
    return {f"biorerank.{name}": value for name, value in attributes.items()}


def _found() -> _Instruments | None:
    global _instruments, _looked
    if not _looked:
        with _lock:
            if not _looked:  # nor has another thread
                with suppress(ImportError):
                    _instruments = _made(None, None)
                _looked = True
    return _instruments


def _made(tracer_provider: TracerProvider | None, meter_provider: MeterProvider | None) -> _Instruments:
    from opentelemetry import metrics, trace

    # Of providers that are set later these give proxies: it does not matter who comes first.
    tracer = trace.get_tracer(_SCOPE, VERSION, tracer_provider)
    meter = metrics.get_meter(_SCOPE, VERSION, meter_provider)
    counters = {
        name: meter.create_counter(f"biorerank.{name}", unit, about) for name, (unit, about) in _COUNTERS.items()
    }
    histograms = {
        name: meter.create_histogram(f"biorerank.{name}", unit, about, explicit_bucket_boundaries_advisory=bounds)
        for name, (unit, about, bounds) in _HISTOGRAMS.items()
    }
    return _Instruments(trace, tracer, counters, histograms)
