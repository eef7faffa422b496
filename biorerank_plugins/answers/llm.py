"""A language model behind any server of OpenAI's protocol: Ollama, vLLM, llama.cpp, LM Studio, a hosted one."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from biorerank_plugins._common.checks import positive_number, string
from biorerank_plugins.answers.llm_errors import KEY_VARIABLE, llm_error, was_interrupted
from biorerank_plugins.errors import LLMError, require_extra

__all__ = ["KEY_VARIABLE", "MODEL_VARIABLE", "TIMEOUT_VARIABLE", "URL_VARIABLE", "ChatModel", "llm_error"]

URL_VARIABLE = "BIORERANK_LLM_URL"
MODEL_VARIABLE = "BIORERANK_LLM_MODEL"
TIMEOUT_VARIABLE = "BIORERANK_LLM_TIMEOUT"

_PATIENCE = 120.0  # seconds; a large model may take a minute to load
_CONNECT_SECONDS = 10.0
_LONGEST = 40_000  # characters; small models sometimes repeat themselves without end
_LONGEST_THOUGHT = 400_000
_THOUGHT, _THOUGHT_ENDS = "<think>", "</think>"


class ChatModel:
    """A chat model at an address.

    The server is not asked before the first question. An object may be shared by threads.

    :param base_url: where the API is, ``"http://localhost:11434/v1"`` for Ollama.
    :param model: the name under which the server knows the model, ``"qwen3:4b"``.
    :param api_key: if the server wants one.
    :param timeout: seconds in which the next piece of an answer must come; the first one may have to wait until the
        server has loaded the model.
    :param options: sent with every request, such as ``temperature=0``.
    :raises ValueError: if the address is not a web address, or the model has no name.
    :raises MissingExtraError: if the package ``openai`` is not installed.

    Example::

        from biorerank_plugins.answers.llm import ChatModel

        model = ChatModel("http://localhost:11434/v1", "qwen3:4b")
        for piece in model.stream([{"role": "user", "content": "What is FGF23?"}]):
            print(piece, end="", flush=True)
    """

    def __init__(
        self, base_url: str, model: str, *, api_key: str | None = None, timeout: float = _PATIENCE, **options: Any
    ) -> None:
        self.base_url = string("base_url", base_url).strip().rstrip("/")
        self.model = string("model", model).strip()
        self.timeout = positive_number("timeout", timeout)
        self.options = options
        if not self.base_url.startswith(("http://", "https://")):
            raise ValueError(
                f"The address of a language model must begin with http:// or https://, got {base_url!r:.120}; "
                "Ollama's is http://localhost:11434/v1"
            )
        if not self.model:
            raise ValueError("The language model has no name: give the one that its server knows it by.")
        with require_extra("llm"):
            from openai import OpenAI, Timeout
        # No second try: with a silent server it would double the wait, and a person can ask again.
        self._client = OpenAI(
            base_url=self.base_url,
            api_key=api_key or "none",
            timeout=Timeout(self.timeout, connect=min(self.timeout, _CONNECT_SECONDS)),
            max_retries=0,
        )

    @classmethod
    def from_settings(
        cls, base_url: str | None = None, model: str | None = None, *, timeout: float | None = None, **options: Any
    ) -> ChatModel | None:
        """Return the model that arguments or environment variables name.

        :param base_url: ``None``: ``$BIORERANK_LLM_URL``.
        :param model: ``None``: ``$BIORERANK_LLM_MODEL``.
        :param timeout: as in the class; ``None``: ``$BIORERANK_LLM_TIMEOUT``, else 120.
        :param options: sent with every request. A key is read from ``$BIORERANK_LLM_KEY``.
        :returns: the model; ``None`` if neither setting is there.
        :raises ValueError: if there is an address without a model, or the timeout is no number above 0.
        """
        url = os.environ.get(URL_VARIABLE, "") if base_url is None else base_url
        name = os.environ.get(MODEL_VARIABLE, "") if model is None else model
        if not url.strip():
            return None  # a model's name alone asks for nothing
        if not name.strip():
            raise ValueError(f"A language model needs a name beside its address {url}: set {MODEL_VARIABLE}.")
        seconds = _seconds() if timeout is None else timeout
        return cls(url, name, api_key=os.environ.get(KEY_VARIABLE) or None, timeout=seconds, **options)

    def stream(self, messages: Sequence[Mapping[str, str]]) -> Iterator[str]:
        """Give the answer in pieces, as they come.

        What a model thinks aloud before it answers (``<think>…</think>``) is left out.

        :param messages: ``{"role": "system" | "user" | "assistant", "content": text}``, in order.
        :raises LLMError: if the server cannot be reached, is silent for too long, reports an error, or breaks off; the
            pieces that were given until then are the beginning of an answer.
        """
        ended: list[str] = []
        length = 0
        for piece in _without_thoughts(self._pieces(messages, ended), self.model):
            length += len(piece)
            yield piece
            if length > _LONGEST:
                raise LLMError(f"The language model {self.model} did not come to an end; its answer is cut here.")
        if not ended and length:
            raise LLMError(
                f"The language model {self.model} broke off in the middle of its answer: what came is incomplete."
            )
        if not ended:
            raise LLMError(
                f"No answer came from {self.base_url}. Is it the address of an API in OpenAI's protocol "
                "(Ollama: …:11434/v1)?"
            )
        if ended[0] == "length":
            raise LLMError(f"The language model {self.model} reached its limit of tokens: the answer is cut here.")
        if not length:
            raise LLMError(f"The language model {self.model} gave an empty answer (it says: {ended[0]}).")

    def complete(self, messages: Sequence[Mapping[str, str]]) -> str:
        """Return the whole answer.

        :param messages: as :meth:`stream` takes them.
        :raises LLMError: as :meth:`stream` does.
        """
        return "".join(self.stream(messages))

    def close(self) -> None:
        """Close connections."""
        self._client.close()

    def _pieces(self, messages: Sequence[Mapping[str, str]], ended: list[str]) -> Iterator[str]:
        """Give what comes; the server's reason to stop goes into ``ended``, which stays empty if it gave none."""
        try:
            completions: Any = self._client.chat.completions
            with completions.create(
                model=self.model, messages=[dict(one) for one in messages], stream=True, **self.options
            ) as chunks:
                for chunk in chunks:
                    for choice in (chunk.choices or [])[:1]:
                        if choice.finish_reason:
                            ended.append(str(choice.finish_reason))
                        if choice.delta is not None and choice.delta.content:
                            yield choice.delta.content
        except Exception as error:
            if was_interrupted(error):
                raise KeyboardInterrupt from error
            raise llm_error(error, self.base_url, self.model, self.timeout) from error


def _seconds() -> float:
    given = os.environ.get(TIMEOUT_VARIABLE, "").strip()
    try:
        return float(given) if given else _PATIENCE
    except ValueError:
        raise ValueError(f"{TIMEOUT_VARIABLE} must be a number of seconds, got {given!r:.40}.") from None


def _without_thoughts(pieces: Iterable[str], model: str) -> Iterator[str]:
    """Leave out a ``<think>`` block at the start, which may be cut anywhere between pieces; no more of it is kept."""
    held, thinking, decided, thought = "", False, False, 0
    for piece in pieces:
        if decided:
            yield piece
            continue
        held += piece
        if not thinking:
            held = held.lstrip()
            if len(held) < len(_THOUGHT) and _THOUGHT.startswith(held):
                continue
            thinking = held.startswith(_THOUGHT)
            decided = not thinking
        if thinking:
            before, closed, rest = held.partition(_THOUGHT_ENDS)
            thought += len(piece)
            decided, held = bool(closed), rest.lstrip() if closed else before[1 - len(_THOUGHT_ENDS) :]
            if thought > _LONGEST_THOUGHT:
                raise LLMError(f"The language model {model} thinks without end; it gave no answer.")
        if decided and held:
            yield held
    if not decided and not thinking and held:
        yield held
