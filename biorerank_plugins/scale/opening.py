"""Opening an index, whatever it is."""

from __future__ import annotations

import os
from pathlib import Path

from biorerank_plugins.first_stage.index import PassageIndex
from biorerank_plugins.first_stage.protocol import Encoder, SearchableIndex
from biorerank_plugins.scale.shard_layout import is_sharded
from biorerank_plugins.scale.sharded import ShardedIndex


def open_index(folder: str | os.PathLike[str], *, encoder: Encoder | None = None) -> SearchableIndex:
    """Open an index, whether it is sharded or not."""
    kind: type[ShardedIndex | PassageIndex] = ShardedIndex if is_sharded(Path(folder).expanduser()) else PassageIndex
    return kind.load(folder, encoder=encoder)
