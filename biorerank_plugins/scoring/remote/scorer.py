"""A reranking server as the model of a reranker: ours, Text Embeddings Inference, vLLM, or one shaped like Cohere's."""

from __future__ import annotations

import copy
import logging
import os
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias, get_args

from biorerank_plugins._common.checks import positive_number, string, whole_number
from biorerank_plugins.errors import BioRerankError, OverloadedError, ScoringError, ScoringTimeoutError, require_extra
from biorerank_plugins.scoring.remote.shapes import (
    SHAPES,
    RefusedError,
    Shape,
    checked_url,
    json_of,
    logits_of,
    parts,
    seconds,
)
from biorerank_plugins.text.templates import wellformed

if TYPE_CHECKING:
    import httpx

logger = logging.getLogger(__name__)

Kind: TypeAlias = Literal["auto", "tei", "cohere", "jina", "vllm"]
"""Which protocol a server speaks."""

_BUSY = (429, 503)
_TRY_AGAIN = (408, 502, 504, *_BUSY)
_OTHER_SHAPE = (400, 404, 405, 422)  # what a server says to a protocol that is not its own
_LONGEST_PAUSE = 30.0


class RemoteScorer:
    """Asks a reranking server for logits; a :class:`~biorerank_plugins.scoring.scores.PairScorer` for every adapter.

    Servers that give logits are asked for them (Text Embeddings Inference, and ours). The others give scores between 0
    and 1, whose sigmoid is undone: order and scores stay what the server says, but logits beyond ±27 are lost. The key
    is shown nowhere: neither in ``repr`` nor in a message, and it is not pickled.

    :param url: of the server (``http://localhost:8080``) or of its route (one that ends in ``/rerank``).
    :param kind: its protocol; ``"auto"`` tries them at the first use and keeps the one that is answered.
    :param api_key: sent as ``Authorization: Bearer``.
    :param api_key_env: name of an environment variable that holds the key; such a scorer can be pickled.
    :param model: name of the model, for servers that ask for one.
    :param timeout: seconds a try may take.
    :param batch: texts a request, at most; Text Embeddings Inference takes 32 unless it is told otherwise.
    :param concurrency: requests at the same time, for more texts than a batch.
    :param retries: further tries after a busy server (429, 503), a failing gateway, or a broken connection.
    :param raw_scores: what the server's numbers are: ``True`` logits (vLLM is asked for them), ``False`` scores between
        0 and 1, ``None`` whichever the protocol says.
    :raises ValueError: if an option is impossible.
    :raises MissingExtraError: if ``httpx`` is not installed.

    Example::

        from biorerank_plugins import BioReranker
        from biorerank_plugins.scoring.remote import RemoteScorer

        with RemoteScorer("http://localhost:8080", api_key_env="RERANK_KEY") as server:
            print(BioReranker(server).rank("Which drug reverses dabigatran?", ["Idarucizumab.", "Heparin."])[0])
    """

    def __init__(
        self,
        url: str,
        kind: Kind = "auto",
        *,
        api_key: str | None = None,
        api_key_env: str | None = None,
        model: str | None = None,
        timeout: float = 60.0,
        batch: int = 32,
        concurrency: int = 4,
        retries: int = 3,
        raw_scores: bool | None = None,
    ) -> None:
        self.url = checked_url(url)
        if kind not in get_args(Kind):
            raise ValueError(f"kind={kind!r} is unknown. Choose one of: {', '.join(get_args(Kind))}.")
        if api_key is not None and api_key_env is not None:
            raise ValueError("Give api_key or api_key_env, not both.")
        self.kind = kind
        self.model = model
        self.timeout = positive_number("timeout", timeout)
        self.batch = whole_number("batch", batch)
        self.concurrency = whole_number("concurrency", concurrency)
        self.retries = whole_number("retries", retries, least=0)
        self.raw_scores = raw_scores
        self._api_key = api_key
        self._api_key_env = api_key_env
        self._start_afresh()
        _httpx()

    def _start_afresh(self) -> None:
        self._shape: Shape | None = None if self.kind == "auto" else SHAPES[self.kind]
        self._client: httpx.Client | None = None
        self._process = os.getpid()
        self._lock = threading.Lock()

    def logits(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return one logit for each text, in the same order.

        :param query: the query.
        :param texts: the texts; any number.
        :raises OverloadedError: if the server stays too busy.
        :raises ScoringTimeoutError: if it does not answer in time.
        :raises ScoringError: if it refuses, cannot be reached, or does not answer for each text.
        """
        batches = list(parts([wellformed(text) for text in texts], self.batch))
        ask = partial(self._ask, wellformed(string("The query", query)))
        if not batches:
            return []
        answers = [ask(batches[0])]  # by itself: it finds out the protocol
        if len(batches) > 1:
            with ThreadPoolExecutor(min(self.concurrency, len(batches) - 1)) as threads:
                answers += threads.map(ask, batches[1:])
        return [logit for answer in answers for logit in answer]

    def _ask(self, query: str, texts: list[str]) -> list[float]:
        if self._shape is not None:
            return self._ask_as(self._shape, query, texts)
        refused: list[str] = []
        for name in ("tei", "cohere", "jina"):
            try:
                logits = self._ask_as(SHAPES[name], query, texts)
            except RefusedError as error:
                if error.status not in _OTHER_SHAPE:
                    raise
                refused.append(str(error))
                continue
            self._shape = SHAPES[name]
            logger.info("%s speaks the protocol %r.", self.url, name)
            return logits
        raise ScoringError(f"{self.url} answers none of the protocols that are known: {' '.join(refused)}")

    def _ask_as(self, shape: Shape, query: str, texts: list[str]) -> list[float]:
        raw = shape.gives_logits if self.raw_scores is None else self.raw_scores
        url = self.url if self.url.endswith("/rerank") else self.url + shape.path
        answer = self._post(url, shape.body(query, texts, self.model, raw))
        try:
            return logits_of(answer, shape, len(texts), raw=raw)
        except (ValueError, TypeError, KeyError) as error:
            said = f"{type(error).__name__}: {error}" if isinstance(error, KeyError) else str(error)
            raise ScoringError(f"{url} gave an answer that cannot be used: {said}") from None

    def _post(self, url: str, body: dict[str, Any]) -> Any:
        httpx = _httpx()
        key, left = self._key(), self.retries
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        while True:
            pause = None
            try:
                response = self._open().post(url, json=body, headers=headers)
            except httpx.TimeoutException:
                late = f"{url} did not answer in time. Give a longer timeout, or a smaller batch."
                failure: BioRerankError = ScoringTimeoutError(late)
            except httpx.TransportError as error:
                failure = ScoringError(f"{url} cannot be reached: {type(error).__name__}: {error}.")
            else:
                if response.status_code == 200:
                    return json_of(url, response)
                failure = self._refusal(url, response)
                if response.status_code not in _TRY_AGAIN:
                    raise failure
                pause = seconds(response.headers.get("Retry-After"))
            if left == 0:
                raise failure
            waited = 0.2 * 2 ** (self.retries - left) * random.uniform(0.5, 1.5) if pause is None else pause
            logger.info("%s Trying again in %.1f s.", failure, waited)
            time.sleep(min(_LONGEST_PAUSE, waited))
            left -= 1

    def _refusal(self, url: str, response: httpx.Response) -> BioRerankError:
        said = " ".join(response.text[:400].split())
        key = self._key()
        if key:  # servers like to repeat it
            said = said.replace(key, "***")
        message = f"{url} answered with status {response.status_code}: {said[:200] or 'no text'}."
        if response.status_code in _BUSY:
            return OverloadedError(message)
        return RefusedError(message, response.status_code)

    def _key(self) -> str | None:
        return os.environ.get(self._api_key_env) if self._api_key_env is not None else self._api_key

    def _open(self) -> httpx.Client:
        with self._lock:
            if self._client is None or self._process != os.getpid():  # connections are not shared with a child
                self._client = _httpx().Client(timeout=self.timeout, follow_redirects=False)
                self._process = os.getpid()
            return self._client

    def close(self) -> None:
        """Close the connections; the next use opens them again."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"RemoteScorer({self.url!r}, kind={self.kind!r}, model={self.model!r})"

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        return self  # it has no state that a caller could change, and its key must not be lost

    __copy__ = __deepcopy__

    def __getstate__(self) -> dict[str, Any]:
        if self._api_key is not None:
            raise TypeError(
                "A RemoteScorer with an api_key is not pickled: the key would be readable. Use api_key_env."
            )
        return {name: copy.copy(value) for name, value in vars(self).items() if name not in ("_client", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._start_afresh()


def _httpx() -> Any:
    with require_extra("serve"):
        import httpx

        return httpx
