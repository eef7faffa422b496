"""The work behind the routes: one reranker, perhaps an index, and who is let in.

Work under way is bounded, and a request that cannot be answered in time is told at once.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from biorerank_plugins._common.forks import Threads
from biorerank_plugins._common.versions import VERSION
from biorerank_plugins.first_stage.arguments import FirstStage, check_first_stage
from biorerank_plugins.first_stage.protocol import SearchableIndex
from biorerank_plugins.passages import Ranking
from biorerank_plugins.reranking.reranker import BioReranker
from biorerank_plugins.serve.answers import RefusedError
from biorerank_plugins.serve.limits import Limits
from biorerank_plugins.serve.schemas import SearchRequest
from biorerank_plugins.two_stage import TwoStageSearch

_COUNTING_THREADS = 4
_EVIDENCE_PAIRS = 10  # sentences of a passage, about
_KEPT = 0.9  # of what earlier requests say about the rate, a request
_MARGIN = 0.8  # of the deadline: the rate is an estimate
_LONGEST_WAIT = 60


class Admission:
    """Places of pairs under way; used on the event loop only.

    >>> admission = Admission(Limits(max_waiting=10))
    >>> with admission.place(8):
    ...     admission.waiting
    8
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._since = 0.0
        self._pairs = 0.0
        self._seconds = 0.0
        self.waiting = 0

    def _rate(self) -> float | None:
        """Return the pairs a second of late; ``None`` if nothing was scored yet."""
        return self._pairs / self._seconds if self._seconds > 0 and self._pairs > 0 else None

    def refuse_full(self) -> None:
        """Refuse a request before it is read, with status 429, if there is no room for any."""
        if self.waiting >= self._limits.max_waiting:
            raise self._busy()

    @contextmanager
    def place(self, pairs: int) -> Iterator[None]:
        """Hold places while the body runs.

        :raises RefusedError: with status 413 for more than the server ever takes, with 429 if others hold too many, or
            if the answer would come too late.
        """
        limit = self._limits.max_waiting
        if pairs > limit:
            raise RefusedError(
                413, "too_large", f"The request is of {pairs} pairs, and this server takes {limit}. Send less at once."
            )
        if self.waiting and (self.waiting + pairs > limit or self._too_late(pairs)):
            raise self._busy()
        if not self.waiting:
            self._since = time.monotonic()
        self.waiting += pairs
        try:
            yield
        except BaseException:
            self.waiting -= pairs
            raise
        self.waiting -= pairs
        now = time.monotonic()
        self._pairs = _KEPT * self._pairs + pairs
        self._seconds = _KEPT * self._seconds + now - self._since
        self._since = now

    def _too_late(self, pairs: int) -> bool:
        rate = self._rate()
        return rate is not None and (self.waiting + pairs) / rate > _MARGIN * self._limits.deadline

    def _busy(self) -> RefusedError:
        rate = self._rate()
        seconds = 1 if rate is None else min(_LONGEST_WAIT, max(1, math.ceil(self.waiting / rate)))
        message = f"The server has {self.waiting} pairs under way, and cannot take more in time. Try again later."
        return RefusedError(429, "overloaded", message, seconds)


class Engine:
    """One reranker and perhaps an index; :meth:`start` loads them.

    :param reranker: scores. It is closed with the engine.
    :param open_index: gives the index for ``/search``; called once, when the engine starts. It is closed too.
    :param first_stage: how candidates are found, where a request does not say; ``None``: the best the index has.
    :param names: names that the model goes by in requests; without any, its own.
    :param limits: what is refused.
    :param strict_model_names: refuse requests that name another model (404). By default any name is taken, since
        clients send that of the server they were written for; the answer says which model it was.

    >>> engine = Engine(BioReranker(), open_index=lambda: PassageIndex.load("my-index"))  # doctest: +SKIP
    """

    def __init__(
        self,
        reranker: BioReranker,
        *,
        open_index: Callable[[], SearchableIndex] | None = None,
        first_stage: FirstStage | None = None,
        names: Sequence[str] = (),
        limits: Limits | None = None,
        strict_model_names: bool = False,
    ) -> None:
        self._strict_model_names = strict_model_names
        self._reranker = reranker
        self._open_index = open_index
        self._first_stage = first_stage
        self._index: SearchableIndex | None = None
        self._stages: dict[FirstStage, TwoStageSearch] = {}
        self._threads = Threads(_COUNTING_THREADS, "biorerank-tokens")
        self.limits = limits or Limits()
        self.admission = Admission(self.limits)
        self.names = tuple(names)
        self.ready = False
        self.draining = False
        """Set before the server stops: requests are still answered, and load balancers told to send no more."""

    @property
    def searches(self) -> bool:
        """Whether there is an index."""
        return self._open_index is not None

    def start(self) -> None:
        """Load everything, and score a pair: the first request must not wait for it. Blocks; does nothing if started.

        :raises BioRerankError: if the model or the index cannot be loaded.
        """
        if self.ready:
            return
        self._reranker.warm_up()
        self._reranker.rank("Is it warm?", ["It is."])
        if not self.names:
            self.names = (os.path.basename(self._reranker.model_name.rstrip("/\\")) or "reranker",)
        if self._open_index is not None:
            index = self._open_index()
            self._first_stage = check_first_stage(self._first_stage, has_lexical=index.lexical)
            index.search("Is it warm?", 1, first_stage=self._first_stage)
            self._index = index
        self.ready = True

    def check_model(self, name: str | None) -> str:
        """Return the name of the model that answers.

        :param name: what the request asks for; ``None`` and an empty one for any.
        :raises RefusedError: if it is another one, and names are taken strictly.
        """
        if not name or name in self.names:
            return name or self.names[0]
        if self._strict_model_names:
            known = ", ".join(self.names)
            raise RefusedError(404, "unknown_model", f"There is no model {name[:100]!r} here. Served: {known}.")
        return self.names[0]

    def check_ready(self) -> None:
        """Go on only if everything is loaded; else raise ``RefusedError``, with status 503."""
        if not self.ready:
            raise RefusedError(503, "not_ready", "The model is being loaded. Try again in a few seconds.", 2)

    async def rank(self, query: str, texts: list[str], *, count_tokens: bool = False) -> tuple[Ranking, int | None]:
        """Rank texts.

        :param count_tokens: whether to count the tokens too: words, for a model that tokenises in its own way.
        :raises RefusedError: if there is no room, or there are too many of them.
        :raises TimeoutError: if the deadline passes.
        """
        async with self._admitted(len(texts), "texts", self.limits.pairs(query, texts)):
            ranking = await self._reranker.arank(query, texts, fusion=None, timeout=self.limits.deadline)
            if not count_tokens:
                return ranking, None
            count = partial(self._reranker.count_tokens, [query, *texts])
            return ranking, await asyncio.get_running_loop().run_in_executor(self._threads.executor, count)

    async def score(self, pairs: list[tuple[str, str]]) -> list[float]:
        """Score pairs; the errors are those of :meth:`rank`."""
        places = sum(self.limits.pairs(query, [text]) for query, text in pairs)
        async with self._admitted(len(pairs), "pairs", places):
            asked = [(query, [text]) for query, text in pairs]
            rankings = await self._reranker.arank_many(asked, fusion=None, timeout=self.limits.deadline)
            return [ranking[0].score for ranking in rankings]

    async def search(self, request: SearchRequest) -> Ranking:
        """Answer a question from the index; the errors are those of :meth:`rank`."""
        self.check_ready()
        if self._index is None:
            raise RefusedError(404, "no_index", "This server has no index: start it with biorerank serve --index DIR.")
        returned = min(request.candidates, request.top_k or request.candidates)
        pairs = request.candidates + (_EVIDENCE_PAIRS * returned if request.evidence else 0)
        options = request.model_dump(exclude={"query", "first_stage"})
        search = self._search(request, self._index)
        async with self._admitted(request.candidates, "candidates", min(pairs, self.limits.max_waiting)):
            return await search.asearch(request.query, timeout=self.limits.deadline, **options)

    @asynccontextmanager
    async def _admitted(self, count: int, what: str, pairs: int) -> AsyncIterator[None]:
        """Hold places for pairs while the body runs, until the deadline."""
        self.check_ready()
        most = self.limits.max_texts
        if count > most:
            raise RefusedError(413, "too_large", f"{count} {what}, and this server takes {most}. Send fewer at once.")
        with self.admission.place(pairs):
            async with asyncio.timeout(self.limits.deadline):
                yield

    def _search(self, request: SearchRequest, index: SearchableIndex) -> TwoStageSearch:
        try:
            stage = check_first_stage(request.first_stage or self._first_stage, has_lexical=index.lexical)
        except Exception as error:
            raise RefusedError(422, "validation", f"first_stage: {error}") from error
        if stage not in self._stages:
            self._stages[stage] = TwoStageSearch(index, self._reranker, first_stage=stage)
        return self._stages[stage]

    def close(self) -> None:
        """Give everything back; closing twice is fine."""
        self.ready = False
        self._threads.executor.shutdown(wait=True, cancel_futures=True)
        self._reranker.close()
        if self._index is not None:
            self._index.close()

    def info(self) -> dict[str, Any]:
        """Return what the server is, as JSON types."""
        return {
            "model_id": self.names[0] if self.names else None,
            "model_type": {"reranker": {}},
            "max_client_batch_size": self.limits.max_texts,
            "search": self.searches,
            "version": VERSION,
        }
