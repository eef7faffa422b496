"""Every exception that the package raises on purpose.

::

    BioRerankError
    ├── ModelError            a model cannot be found, loaded or used
    ├── ScoringError          a pair has no usable score
    ├── ScoringTimeoutError   scoring did not finish in the time asked for
    ├── OverloadedError       too much is waiting; the same call may work later
    ├── PassageIndexError     an index cannot be built, read or changed
    ├── ReaderError           an input file or line cannot be read
    ├── ShardError            the shards of a job cannot be made or read
    ├── LLMError              a language model gives no answer, or not all of it
    └── MissingExtraError     an optional dependency is not installed

Wrong arguments raise :class:`ValueError` or :class:`TypeError`, as everywhere in Python.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from biorerank_plugins._common.versions import install_line

__all__ = [
    "BioRerankError",
    "LLMError",
    "MissingExtraError",
    "ModelError",
    "OverloadedError",
    "PassageIndexError",
    "ReaderError",
    "ScoringError",
    "ScoringTimeoutError",
    "ShardError",
    "require_extra",
]


class BioRerankError(Exception):
    """Base class: catch it to catch whatever this package raises on purpose."""


class ModelError(BioRerankError):
    """A model cannot be found, loaded, or used for what was asked."""


class ScoringError(BioRerankError):
    """A pair has no finite score, even after it was computed again in fp32.

    :param message: what happened and to which passages.
    :param passage_ids: ids of the passages concerned.
    """

    def __init__(self, message: str, passage_ids: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.passage_ids = passage_ids


class ScoringTimeoutError(BioRerankError, TimeoutError):
    """Scoring did not finish within the ``timeout`` that the caller asked for."""


class OverloadedError(BioRerankError):
    """Too much waits to be scored, so that a call was refused; nothing is wrong with it, and it may work later.

    A server answers it with status 429 or 503.
    """


class PassageIndexError(BioRerankError):
    """A passage index cannot be built, read, searched or changed."""


class ShardError(BioRerankError):
    """The shards of a job over a large collection cannot be made or read."""


class ReaderError(BioRerankError):
    """An input file cannot be read.

    :param message: what is wrong and what was expected.
    :param path: the file.
    :param line: line (or record) number in it, counted from 1.
    """

    def __init__(self, message: str, path: str | None = None, line: int | None = None) -> None:
        place = ":".join(str(part) for part in (path, line) if part is not None)
        super().__init__(f"{place}: {message}" if place else message)
        self.path = path
        self.line = line


class LLMError(BioRerankError):
    """A language model cannot be reached, gives an error, or stops in the middle of its answer."""


class MissingExtraError(BioRerankError, ImportError):
    """An optional dependency is needed and not installed; the message holds the pip line.

    :param module: the module that could not be imported.
    :param extra: the extra of this package that brings it.
    """

    def __init__(self, module: str, extra: str) -> None:
        super().__init__(
            f"This needs the package {module!r}, which is not installed. Install it with: {install_line(extra)}"
        )
        self.extra = extra


@contextmanager
def require_extra(extra: str) -> Iterator[None]:
    """Turn a failing import of a host into the error that names the pip line.

    :param extra: the extra that brings the host.
    :raises MissingExtraError: if an import inside the block fails because a module is not installed.

    >>> with require_extra("haystack"):
    ...     import haystack_that_is_not_there
    Traceback (most recent call last):
    ...
    biorerank_plugins.errors.MissingExtraError: This needs the package 'haystack_that_is_not_there', ...
    """
    try:
        yield
    except MissingExtraError:
        raise
    except ModuleNotFoundError as error:
        raise MissingExtraError(str(error.name), extra) from error
