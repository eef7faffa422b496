"""Several indexes asked at the same time, and what to do when one of them gives no answer."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Literal, TypeVar

from biorerank_plugins._common.checks import finite_number
from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage.index import PassageIndex

__all__ = ["OnLost", "SideBySide"]

logger = logging.getLogger(__name__)

OnLost = Literal["error", "partial"]
T = TypeVar("T")


class SideBySide:
    """Indexes by name, each asked in a thread of its own.

    :param shards: the indexes; ``None`` for one that is lost.
    :param on_lost: ``"error"`` or ``"partial"``: what to do about one that is lost, fails, or is too late.
    :param timeout: seconds that one may take; ``None`` for as long as it takes.
    :raises PassageIndexError: if too much is lost.
    """

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
        self._pool = ThreadPoolExecutor(max_workers=len(self.present), thread_name_prefix="biorerank-shard")

    @property
    def lost(self) -> tuple[str, ...]:
        """Names of the indexes that could not be opened."""
        return tuple(name for name, index in self.shards.items() if index is None)

    def ask(
        self, question: Callable[[PassageIndex], T], among: tuple[str, ...] | None = None
    ) -> tuple[dict[str, T], set[str]]:
        """Ask all indexes, or those named, at the same time.

        :param question: is called with each of them.
        :param among: names; ``None`` for all.
        :returns: the answers by name, and the names of those that gave none.
        :raises PassageIndexError: if one gave none and ``on_lost`` is ``"error"``, or none gave one.
        :raises ValueError: if ``question`` does: it is the question that is wrong then.
        """
        asked: dict[str, Future[T]] = {
            name: self._pool.submit(question, index)
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

    def close(self) -> None:
        """Release all indexes; searches that are under way may fail."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        for index in self.present.values():
            index.close()
