"""Past one machine: shards that any engine can work on, Ray Data to encode them, indexes searched side by side.

Only :mod:`.ray_engine` needs the extra ``ray``; names are loaded when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from biorerank_plugins._common.lazy import lazy_names

if TYPE_CHECKING:
    from biorerank_plugins.scale.build import build_index
    from biorerank_plugins.scale.opening import open_index
    from biorerank_plugins.scale.planning import plan
    from biorerank_plugins.scale.shard_folder import ShardFolder
    from biorerank_plugins.scale.sharded import ShardedIndex
    from biorerank_plugins.scale.shards import EmbeddedShard, embed_shard, score_shard

__all__ = [
    "EmbeddedShard",
    "ShardFolder",
    "ShardedIndex",
    "build_index",
    "embed_shard",
    "open_index",
    "plan",
    "score_shard",
]

_MODULES = {
    "EmbeddedShard": ".shards",
    "ShardFolder": ".shard_folder",
    "ShardedIndex": ".sharded",
    "build_index": ".build",
    "embed_shard": ".shards",
    "open_index": ".opening",
    "plan": ".planning",
    "score_shard": ".shards",
}

__getattr__, __dir__ = lazy_names(__name__, _MODULES)
