"""What LlamaIndex reports while a test runs, and models whose logits can be worked out by hand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from llama_index.core.bridge.pydantic import Field
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.span import BaseSpan
from llama_index.core.instrumentation.span_handlers import BaseSpanHandler

from biorerank_plugins.testing import ScriptedScorer


class Recorder(BaseEventHandler):
    """Keeps the events."""

    seen: list[Any] = Field(default_factory=list)

    @classmethod
    def class_name(cls) -> str:
        return "Recorder"

    def handle(self, event: Any, **_: Any) -> None:
        self.seen.append(event)

    def names(self, start: str = "") -> list[str]:
        return [event.class_name() for event in self.seen if event.class_name().startswith(start)]


class Spans(BaseSpanHandler[BaseSpan]):
    """Keeps the ids of spans that ended well, and of those that were dropped."""

    ended: list[str] = Field(default_factory=list)
    dropped: list[str] = Field(default_factory=list)

    @classmethod
    def class_name(cls) -> str:
        return "Spans"

    def new_span(self, id_: str, bound_args: Any, instance: Any = None, **_: Any) -> BaseSpan:
        return BaseSpan(id_=id_)

    def prepare_to_exit_span(self, id_: str, bound_args: Any, **_: Any) -> BaseSpan | None:
        self.ended.append(id_)
        return self.open_spans.get(id_)

    def prepare_to_drop_span(self, id_: str, bound_args: Any, **_: Any) -> BaseSpan | None:
        self.dropped.append(id_)
        return self.open_spans.get(id_)


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    root, handler = get_dispatcher(), Recorder()
    root.add_event_handler(handler)
    yield handler
    root.event_handlers.remove(handler)


@pytest.fixture
def spans() -> Iterator[Spans]:
    root, handler = get_dispatcher(), Spans()
    root.add_span_handler(handler)
    yield handler
    root.span_handlers.remove(handler)


def _shared(query: str, text: str) -> float:
    """How many of the query's words a text has, whatever their case and full stops."""
    return float(len(set(query.lower().split()) & set(text.lower().replace(".", " ").split())))


@pytest.fixture
def shared_words() -> ScriptedScorer:
    return ScriptedScorer(_shared)


@pytest.fixture
def slow() -> ScriptedScorer:
    """The same, and takes its time outside Python's lock, as a model does."""

    def wait(query: str, text: str) -> float:
        time.sleep(0.1)
        return _shared(query, text)

    return ScriptedScorer(wait)
