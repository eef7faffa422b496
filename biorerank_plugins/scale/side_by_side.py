"""Several indexes opened, and asked at the same time: what to do about one that is lost, and how answers become one."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, wait
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import Literal, TypeVar

from biorerank_plugins._common.checks import finite_number
from biorerank_plugins._common.forks import Threads
from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage.hybrid import Asked, Piece, candidates_of, merge, rows_in, search_contents
from biorerank_plugins.first_stage.index import PassageIndex
from biorerank_plugins.first_stage.protocol import Encoder, FoundCandidates
from biorerank_plugins.passages import Passage
from biorerank_plugins.scale.shard_layout import read_layout
from biorerank_plugins.text.abbreviations import Abbreviations

logger = logging.getLogger(__name__)

OnLost = Literal["error", "partial"]
T = TypeVar("T")


class SideBySide:
    """Indexes by name, each asked in a thread of its own; the parameters are those of ``ShardedIndex``."""

    def __init__(self, shards: Mapping[str, PassageIndex | None], on_lost: OnLost, timeout: float | None) -> None:
        if on_lost not in ("error", "partial"):
            raise ValueError(f"on_lost={on_lost!r} is unknown. Choose 'error' or 'partial'.")
        if not shards:
            raise PassageIndexError("A sharded index needs at least one shard.")
        self.on_lost = on_lost
        self.timeout = None if timeout is None else finite_number("timeout", timeout, low=0)
        self.shards = dict(shards)
        self.present = {name: index for name, index in shards.items() if index is not None}
        self._report({name: "it could not be opened" for name in self.lost})
        self.first = next(iter(self.present.values()))
        for name, index in self.present.items():
            if index.encoder.content_hash != self.first.encoder.content_hash or index.lexical != self.first.lexical:
                raise PassageIndexError(f"The shard {name} was built in another way than the first one.")
        self._threads = Threads(len(self.present), "biorerank-shard")
        self._closed = False

    @property
    def lost(self) -> tuple[str, ...]:
        """Names of the indexes that could not be opened."""
        return tuple(name for name, index in self.shards.items() if index is None)

    @cached_property
    def abbreviations(self) -> Abbreviations:
        """What passages of any of them define."""
        return Abbreviations(pair for index in self.present.values() for pair in index.definitions.pairs)

    def ask(
        self, question: Callable[[PassageIndex], T], among: tuple[str, ...] | None = None
    ) -> tuple[dict[str, T], set[str]]:
        """Ask all indexes, or those named, at the same time; return the answers by name, and who gave none.

        :raises PassageIndexError: if one gave none and ``on_lost`` is ``"error"``, or none gave one.
        :raises ValueError: if ``question`` does: it is the question that is wrong then.
        """
        asked: dict[str, Future[T]] = {
            name: self._threads.executor.submit(question, index)
            for name, index in self.present.items()
            if among is None or name in among
        }
        wait(asked.values(), timeout=self.timeout)
        answers: dict[str, T] = {}
        reasons = {name: "it could not be opened" for name in self.lost} if among is None else {}
        for name, future in asked.items():
            error = TimeoutError(f"no answer within {self.timeout} s") if not future.done() else future.exception()
            if error is None:
                answers[name] = future.result()
            elif isinstance(error, (ValueError, TypeError)):
                raise error
            else:
                future.cancel()
                reasons[name] = f"{type(error).__name__}: {error}"
        self._report(reasons)
        return answers, set(reasons)

    def _report(self, reasons: Mapping[str, str]) -> None:
        if not reasons:
            return
        why = "; ".join(f"{name}: {reason.rstrip('.')}" for name, reason in reasons.items())
        message = f"{len(reasons)} of {len(self.shards)} shards did not answer ({', '.join(reasons)}). {why}."
        if self.on_lost == "error" or len(reasons) == len(self.shards):
            raise PassageIndexError(f"{message} on_lost='partial' goes on with the others, if there are any.")
        logger.warning("Results are partial: %s", message)

    def check_open(self) -> None:
        """Refuse to go on after :meth:`close`."""
        if self._closed:
            raise PassageIndexError("This index was closed. Load it again.")

    def close(self) -> None:
        """Release all indexes; searches that are under way may fail."""
        self._closed = True
        self._threads.executor.shutdown(wait=False, cancel_futures=True)
        for index in self.present.values():
            index.close()


def search_shards(shards: SideBySide, asked: Asked, scores_are: str | None) -> list[FoundCandidates]:
    """Return what one index of all the shards' passages would find for each query."""

    def search_one(index: PassageIndex) -> list[Piece]:
        with index.reading() as contents:
            return search_contents(contents, asked)

    def fetch_from(index: PassageIndex) -> dict[int, Passage]:
        with index.reading() as contents:
            return contents.catalog.fetch(rows)

    pieces, missing = shards.ask(search_one)
    found = [merge(one, asked) for one in zip(*pieces.values(), strict=True)]
    rows = rows_in(found)
    fetched, gone = shards.ask(fetch_from, among=tuple(pieces))
    passages = {row: passage for part in fetched.values() for row, passage in part.items()}
    lost = tuple(name for name in shards.shards if name in missing or name in gone)
    return [candidates_of(best, passages, scores_are, lost) for best in found]


@contextmanager
def opened_shards(
    folder: Path, *, encoder: Encoder | None, on_lost: OnLost, verify: Literal["full", "fast"]
) -> Iterator[dict[str, PassageIndex | None]]:
    """Open all shards of a folder; they are closed if one of them cannot be opened, or the body fails.

    :param encoder: what all shards share; ``None`` makes it from the first one.
    :param on_lost: ``"partial"`` gives ``None`` for a shard that is missing or damaged.
    """
    while True:
        layout = read_layout(folder)
        with ExitStack() as stack:
            opened: dict[str, PassageIndex | None] = {}
            try:
                for name, shard in layout.items():
                    index = opened[name] = _opened(name, shard, encoder, verify, on_lost)
                    if index is not None:
                        stack.callback(index.close)
                        encoder = index.encoder
            except PassageIndexError:
                if read_layout(folder) == layout:
                    raise
                continue  # an update switched to newer shards and removed those that were being opened
            if None in opened.values() and read_layout(folder) != layout:
                continue
            yield opened
            stack.pop_all()
            return


def _opened(
    name: str, folder: Path, encoder: Encoder | None, verify: Literal["full", "fast"], on_lost: OnLost
) -> PassageIndex | None:
    try:
        return PassageIndex.load(folder, encoder=encoder, verify=verify)
    except (PassageIndexError, OSError) as error:
        if on_lost == "error":
            raise PassageIndexError(
                f"The shard {name} cannot be opened: {error} on_lost='partial' goes on without it."
            ) from error
        logger.warning("The shard %s cannot be opened: %s", name, error)
        return None
