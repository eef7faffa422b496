"""The token ids of an index's passages, as a reranker reads them: it need not tokenise them at every question.

They are a convenience. Whatever is wrong with them, the index is used without them, and says so once.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

from biorerank_plugins._common.progress import progress_bar
from biorerank_plugins.errors import BioRerankError, ModelError
from biorerank_plugins.first_stage.vectors import RowArray
from biorerank_plugins.passages import Passage
from biorerank_plugins.runtime.passage_tokens import PassageTokens
from biorerank_plugins.runtime.token_cache import FORMAT, CacheInfo, TokenIdCache, TokenIdWriter, text_keys

__all__ = ["MAX_TOKENS", "PassageTokenIds", "read_token_ids", "tokenise"]

logger = logging.getLogger(__name__)

MAX_TOKENS = 512
"""The ids of a longer passage are not stored: models read it in windows, each of which they tokenise by itself."""

_AT_ONCE = 1024
_COMPACT_AT = 0.25  # share of removed passages at which their ids are dropped
_REMOVED = "removed"


class PassageTokenIds:
    """Token ids of passages; it never changes: :meth:`added` and :meth:`without` return another one.

    :param cache: ids by text.
    :param tokens: what makes them of a passage; ``None`` loads it by name when it is needed.
    """

    def __init__(self, cache: TokenIdCache, tokens: PassageTokens | None = None) -> None:
        self.cache = cache
        self._tokens = tokens

    def added(self, passages: Iterable[tuple[int, Passage]]) -> PassageTokenIds:
        """Return token ids that hold these passages too; without them where their tokenizer cannot be loaded.

        :param passages: row number and passage.
        """

        def write(writer: TokenIdWriter, tokens: PassageTokens) -> None:
            writer.copy(self.cache)
            _write(writer, passages, tokens)

        return self._rewritten(write, self.cache.info.notes)

    def without(self, rows: RowArray, passages: Iterable[tuple[int, Passage]]) -> PassageTokenIds:
        """Return token ids of which those of some passages may be gone.

        Each removal would otherwise read everything: what is removed stays, and is never found, until it is a quarter.

        :param rows: rows of the passages that are removed.
        :param passages: row number and passage of all that were there; read only if it is time to clear up.
        """
        notes = dict(self.cache.info.notes)
        notes[_REMOVED] = _whole(notes.get(_REMOVED)) + len(rows)
        if notes[_REMOVED] <= _COMPACT_AT * len(self.cache):
            return PassageTokenIds(self.cache.with_notes(notes), self._tokens)
        gone = frozenset(rows.tolist())

        def write(writer: TokenIdWriter, tokens: PassageTokens) -> None:
            for part in _parts(passage for row, passage in passages if row not in gone):
                writer.copy(self.cache, keep=text_keys([tokens.text(passage) for passage in part]))

        return self._rewritten(write, {**notes, _REMOVED: 0})

    def write(self, file: BinaryIO) -> None:
        """Write the file that :func:`read_token_ids` reads."""
        self.cache.write(file)

    def about(self) -> dict[str, Any]:
        """Return what the manifest says of it."""
        return {"format": FORMAT, "tokenizer": self.cache.info.tokenizer, "texts": len(self.cache)}

    def moved(self, path: Path) -> PassageTokenIds | None:
        """Return the same, read from the file that it was written to."""
        return read_token_ids(path, tokens=self._tokens)

    def _rewritten(
        self, write: Callable[[TokenIdWriter, PassageTokens], None], notes: Mapping[str, Any]
    ) -> PassageTokenIds:
        try:
            tokens = self._loaded_tokens()
            return _written(replace(self.cache.info, notes=notes), lambda writer: write(writer, tokens), tokens)
        except (BioRerankError, OSError, TypeError, ValueError) as error:
            logger.warning(
                "The token ids of this index are left as they are: %s Passages that they lack are tokenised at every "
                "question; cache_tokens(reranker) stores the ids of all.",
                error,
            )
            return self

    def _loaded_tokens(self) -> PassageTokens:
        if self._tokens is None:
            tokens = PassageTokens.from_notes(self.cache.info.notes)
            if tokens.ids.fingerprint != self.cache.info.tokenizer:
                raise ModelError(f"{tokens.model} has another tokenizer now.")
            self._tokens = tokens
        return self._tokens


def tokenise(
    passages: Iterable[tuple[int, Passage]],
    tokens: PassageTokens,
    *,
    max_tokens: int = MAX_TOKENS,
    total: int | None = None,
    show_progress: bool = False,
) -> PassageTokenIds:
    """Return the token ids of passages; they pass through a temporary file, not through memory.

    :param passages: row number and passage; read once.
    :param tokens: how the reranker reads them.
    :param max_tokens: the ids of a longer passage are not kept.
    :param total: number of passages, for the progress bar.
    :param show_progress: whether to show one.
    :raises OSError: if the temporary file cannot be written.
    """
    info = replace(tokens.ids.cache_info(max_tokens), notes={**tokens.notes(), _REMOVED: 0})
    with progress_bar(show_progress, total=total, desc="Tokenising", unit=" passages") as progress:

        def write(writer: TokenIdWriter) -> None:
            _write(writer, passages, tokens, progress.update)

        return _written(info, write, tokens)


def read_token_ids(
    path: Path, *, damage: str | None = None, verify: bool = False, tokens: PassageTokens | None = None
) -> PassageTokenIds | None:
    """Read token ids; where they cannot be used, say so and return ``None``.

    :param path: the file.
    :param damage: what is known to be wrong with it.
    :param verify: whether to look at every id.
    :param tokens: see :class:`PassageTokenIds`.
    """
    try:
        if damage is not None:
            raise ValueError(damage)
        cache = TokenIdCache.read(path)
        if verify:
            cache.check()
        return PassageTokenIds(cache, tokens)
    except (OSError, ValueError, RecursionError) as error:
        logger.warning(
            "%s is not used: %s. Searches give the same without it, but every passage is tokenised again; "
            "cache_tokens(reranker) of the index stores it anew.",
            path,
            error,
        )
        return None


def _written(info: CacheInfo, write: Callable[[TokenIdWriter], None], tokens: PassageTokens) -> PassageTokenIds:
    with tempfile.TemporaryFile(prefix="biorerank-token-ids-") as file:
        writer = TokenIdWriter(file, info)
        write(writer)
        writer.finish()
        return PassageTokenIds(TokenIdCache.of(file), tokens)


def _write(
    writer: TokenIdWriter,
    passages: Iterable[tuple[int, Passage]],
    tokens: PassageTokens,
    done: Callable[[int], object] = lambda count: None,
) -> None:
    for part in _parts(passage for _, passage in passages):
        texts = list(dict.fromkeys(map(tokens.text, part)))
        writer.add(texts, tokens.ids.tokenise(texts))
        done(len(part))


def _parts(passages: Iterator[Passage]) -> Iterator[list[Passage]]:
    while part := list(islice(passages, _AT_ONCE)):
        yield part


def _whole(value: object) -> int:
    return value if isinstance(value, int) and value >= 0 else 0
