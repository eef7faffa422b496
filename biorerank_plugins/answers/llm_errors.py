"""Why a language model gave no answer, in a sentence that says what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from biorerank_plugins.errors import LLMError

KEY_VARIABLE = "BIORERANK_LLM_KEY"
"""Not ``OPENAI_API_KEY``: a key must not go to whatever address happens to be set."""

_MESSAGE_LIMIT = 300


def llm_error(error: BaseException, base_url: str, model: str, timeout: float | None = None) -> LLMError:
    """Say in a sentence why a language model gave no answer.

    For errors of the package ``openai`` and of the connection below it, also where a framework wrapped them.

    :param error: what was raised.
    :param base_url: the address that was asked.
    :param model: the model's name.
    :param timeout: seconds that were waited, if known.
    :returns: the error to raise; if ``error`` is none of those, what it says is in the message.

    >>> print(llm_error(ConnectionResetError("reset by peer"), "http://localhost:11434/v1", "qwen3:4b"))
    The connection to the language model at http://localhost:11434/v1 broke off (reset by peer). Ask again.
    """
    import openai

    causes = list(_causes(error))
    for cause in causes:
        if isinstance(cause, LLMError):
            return cause
        if "Timeout" in type(cause).__name__ or isinstance(cause, TimeoutError):
            waited = "too long" if timeout is None else f"{timeout:g} s"
            return LLMError(
                f"The language model {model} was silent for {waited}. It may still be loading, or be busy: ask again."
            )
    for cause in causes:
        if isinstance(cause, openai.APIStatusError):
            return LLMError(_of_status(cause, base_url, model))
        # Newer versions of the package also wrap what breaks a stream that had begun.
        if isinstance(cause, openai.APIConnectionError) and not _was_connected(cause):
            why = _short(cause.__cause__ or cause).rstrip(".")
            return LLMError(
                f"No language model answers at {base_url} ({why}). Is its server running, is the address right?"
            )
        if isinstance(cause, openai.APIError) and not isinstance(cause, openai.APIConnectionError):
            return LLMError(f"The language model {model} stopped with an error: {_short(cause.message)}")
        if isinstance(cause, ValueError):  # no JSON where the protocol has JSON
            return LLMError(
                f"What came from {base_url} is not OpenAI's protocol ({_short(cause)}). Is the address right?"
            )
    return LLMError(
        f"The connection to the language model at {base_url} broke off ({_short(causes[-1]).rstrip('.')}). Ask again."
    )


def _was_connected(error: BaseException) -> bool:
    # By names: the package uses httpx or httpx2, by its version.
    return any(type(cause).__name__ in ("ReadError", "WriteError", "RemoteProtocolError") for cause in _causes(error))


def was_interrupted(error: BaseException | None) -> bool:
    """Whether Ctrl-C came while a connection was read: what is closed then may fail in its own way."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, KeyboardInterrupt):
            return True
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return False


def _of_status(error: Any, base_url: str, model: str) -> str:
    said = _short(error.message)
    match error.status_code:
        case 401 | 403:
            return f"The server at {base_url} refuses the key: set {KEY_VARIABLE}. It says: {said}"
        case 404:
            return f"There is no model {model} at {base_url}, or the address lacks a /v1 at its end. It says: {said}"
        case 429:
            return (
                f"The server at {base_url} has too much to do, or a quota is used up: ask again later. It says: {said}"
            )
        case code if code >= 500:
            return f"The server of the language model failed (HTTP {code}): ask again. It says: {said}"
        case code:
            return f"The server at {base_url} refuses the question (HTTP {code}). It says: {said}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _short(value: object) -> str:
    text = " ".join(str(value).split()) or type(value).__name__
    return text if len(text) <= _MESSAGE_LIMIT else f"{text[:_MESSAGE_LIMIT]}…"
