"""The work behind the routes: one reranker, perhaps an index, and what may be under way."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from biorerank_plugins._common.forks import Threads
from biorerank_plugins.first_stage.arguments import check_first_stage
from biorerank_plugins.serve.admission import Admission
from biorerank_plugins.serve.answers import RefusedError
from biorerank_plugins.serve.limits import Limits
from biorerank_plugins.two_stage import TwoStageSearch

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.arguments import FirstStage
    from biorerank_plugins.first_stage.protocol import SearchableIndex
    from biorerank_plugins.passages import Ranking
    from biorerank_plugins.reranking.reranker import BioReranker
    from biorerank_plugins.serve.schemas import SearchRequest

logger = logging.getLogger(__name__)

_COUNTING_THREADS = 4
_EVIDENCE_PAIRS = 10  # sentences of a passage, about


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
        """Go on only if everything is loaded.

        :raises RefusedError: with status 503 if not.
        """
        if not self.ready:
            raise RefusedError(503, "not_ready", "The model is being loaded. Try again in a few seconds.", 2)

    async def rank(self, query: str, texts: list[str], *, count_tokens: bool = False) -> tuple[Ranking, int | None]:
        """Rank texts.

        :param count_tokens: whether to count the tokens too: words, for a model that tokenises in its own way.
        :raises RefusedError: if there is no room, or there are too many of them.
        :raises TimeoutError: if the deadline passes.
        """
        self.check_ready()
        self._refuse_many(len(texts), "texts")
        with self.admission.place(self.limits.pairs(query, texts)):
            async with asyncio.timeout(self.limits.deadline):
                ranking = await self._reranker.arank(query, texts, fusion=None, timeout=self.limits.deadline)
                if not count_tokens:
                    return ranking, None
                loop = asyncio.get_running_loop()
                return ranking, await loop.run_in_executor(
                    self._threads.executor, self._reranker.count_tokens, [query, *texts]
                )

    async def score(self, pairs: list[tuple[str, str]]) -> list[float]:
        """Score pairs; the errors are those of :meth:`rank`."""
        self.check_ready()
        self._refuse_many(len(pairs), "pairs")
        with self.admission.place(sum(self.limits.pairs(query, [text]) for query, text in pairs)):
            async with asyncio.timeout(self.limits.deadline):
                asked = [(query, [text]) for query, text in pairs]
                rankings = await self._reranker.arank_many(asked, fusion=None, timeout=self.limits.deadline)
                return [ranking[0].score for ranking in rankings]

    async def search(self, request: SearchRequest) -> Ranking:
        """Answer a question from the index; the errors are those of :meth:`rank`."""
        self.check_ready()
        if self._index is None:
            raise RefusedError(404, "no_index", "This server has no index: start it with biorerank serve --index DIR.")
        self._refuse_many(request.candidates, "candidates")
        search = self._search(request, self._index)
        returned = min(request.candidates, request.top_k or request.candidates)
        pairs = request.candidates + (_EVIDENCE_PAIRS * returned if request.evidence else 0)
        options = request.model_dump(exclude={"query", "first_stage"})
        with self.admission.place(min(pairs, self.limits.max_waiting)):
            async with asyncio.timeout(self.limits.deadline):
                return await search.asearch(request.query, timeout=self.limits.deadline, **options)

    def _search(self, request: SearchRequest, index: SearchableIndex) -> TwoStageSearch:
        try:
            stage = check_first_stage(request.first_stage or self._first_stage, has_lexical=index.lexical)
        except Exception as error:
            raise RefusedError(422, "validation", f"first_stage: {error}") from error
        if stage not in self._stages:
            self._stages[stage] = TwoStageSearch(index, self._reranker, first_stage=stage)
        return self._stages[stage]

    def _refuse_many(self, count: int, what: str) -> None:
        most = self.limits.max_texts
        if count > most:
            raise RefusedError(413, "too_large", f"{count} {what}, and this server takes {most}. Send fewer at once.")

    def close(self) -> None:
        """Give everything back; closing twice is fine."""
        self.ready = False
        self._threads.executor.shutdown(wait=True, cancel_futures=True)
        self._reranker.close()
        if self._index is not None:
            self._index.close()

    def info(self) -> dict[str, Any]:
        """Return what the server is, as JSON types."""
        from biorerank_plugins._common.versions import VERSION

        return {
            "model_id": self.names[0] if self.names else None,
            "model_type": {"reranker": {}},
            "max_client_batch_size": self.limits.max_texts,
            "search": self.searches,
            "version": VERSION,
        }
