"""Opening the shards of a folder, and what to do about one that is lost."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from biorerank_plugins.errors import PassageIndexError
from biorerank_plugins.first_stage.index import PassageIndex
from biorerank_plugins.scale.shard_layout import read_layout

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.protocol import Encoder
    from biorerank_plugins.scale.side_by_side import OnLost

__all__ = ["opened_shards"]

logger = logging.getLogger(__name__)


@contextmanager
def opened_shards(
    folder: Path, *, encoder: Encoder | None, on_lost: OnLost, verify: Literal["full", "fast"]
) -> Iterator[dict[str, PassageIndex | None]]:
    """Open all shards of a folder; they are closed if one of them cannot be opened, or the body fails.

    :param folder: the folder of the sharded index.
    :param encoder: what all shards share; ``None`` makes it from the first one.
    :param on_lost: ``"partial"`` gives ``None`` for a shard that is missing or damaged.
    :param verify: as ``PassageIndex.load`` takes it.
    :returns: of the context: the shards by name.
    :raises PassageIndexError: if there is no sharded index, or a shard is lost and ``on_lost`` is ``"error"``.
    """
    opened: dict[str, PassageIndex | None] = {}
    try:
        for name in read_layout(folder):
            index = opened[name] = _opened(folder / name, encoder, verify, on_lost)
            encoder = index.encoder if encoder is None and index is not None else encoder
        yield opened
    except BaseException:
        for index in opened.values():
            if index is not None:
                index.close()
        raise


def _opened(
    folder: Path, encoder: Encoder | None, verify: Literal["full", "fast"], on_lost: OnLost
) -> PassageIndex | None:
    try:
        return PassageIndex.load(folder, encoder=encoder, verify=verify)
    except (PassageIndexError, OSError) as error:
        if on_lost == "error":
            raise PassageIndexError(
                f"The shard {folder.name} cannot be opened: {error} on_lost='partial' goes on without it."
            ) from error
        logger.warning("The shard %s cannot be opened: %s", folder.name, error)
        return None
