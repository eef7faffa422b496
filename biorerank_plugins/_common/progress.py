"""Progress bars, where they are asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, Protocol


class Progress(Protocol):
    """What is told how far the work is."""

    n: int
    """How much is done."""

    def update(self, n: int = 1) -> Any:
        """Note that so much more is done."""


@contextmanager
def progress_bar(show: bool, **settings: Any) -> Iterator[Progress]:
    """Give a progress bar of tqdm, or one that shows nothing.

    Even a disabled bar of tqdm takes a lock that forked processes share: one that was killed while it held it would
    stop all the others for ever. So there is none unless it is shown.

    :param show: whether to show it.
    :param settings: of ``tqdm``.

    >>> with progress_bar(False, total=3) as progress:
    ...     progress.update(3)
    """
    if not show:
        yield SimpleNamespace(n=0, update=lambda n=1: None)
        return
    from tqdm.auto import tqdm

    with tqdm(**settings) as bar:
        yield bar


@contextmanager
def without_bars(switch: str) -> Iterator[None]:
    """Import a library without its own bars of tqdm, for the reason that :func:`progress_bar` names.

    :param switch: environment variable that the library looks at when it is imported.

    >>> with without_bars("DISABLE_TQDM"):
    ...     import bm25s
    """
    if switch in os.environ:
        yield
        return
    os.environ[switch] = "1"
    try:
        yield
    finally:
        os.environ.pop(switch, None)
