"""What Ray's workers do with the rows of a shard: tokenise, then embed and write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from biorerank_plugins.errors import BioRerankError, ShardError
from biorerank_plugins.first_stage.catalog import Catalog
from biorerank_plugins.first_stage.encoder import BiEncoder
from biorerank_plugins.scale.encoding import shard_passages
from biorerank_plugins.scale.shard_folder import ShardFolder
from biorerank_plugins.scale.shards import embed_shard, fingerprint
from biorerank_plugins.scale.tokens import PassageTokenizer, TokenFed, pack, unpack

__all__ = ["Encode", "Tokenise"]


class Tokenise:
    """Row of a shard ► the same with its tokens; shards that are done go through without.

    :param about: catalog file, shard folder and job.
    """

    def __init__(self, about: dict[str, Any]) -> None:
        self._catalog = Catalog.open(Path(about["catalog"]))
        self._shards = ShardFolder(about["folder"], about["job"])
        self._tokenizer: PassageTokenizer | None = None
        self._config = about["job"]["config"]

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Tokenise the passages of a shard."""
        passages = shard_passages(self._catalog, range(row["first"], row["end"]))
        wanted = fingerprint(passages)
        made: dict[str, Any] = {**row, "input": wanted, "tokens": b"", "done": False, "error": ""}
        try:
            made["done"] = self._shards.done(row["number"], wanted) is not None
            if not made["done"]:
                self._tokenizer = self._tokenizer or PassageTokenizer(self._config)
                tokens = self._tokenizer(passages)
                made["tokens"] = b"" if tokens is None else pack(tokens)
        except BioRerankError as error:
            made["error"] = str(error)
        return made


class Encode:
    """Row of a shard with its tokens ► its vectors, in a file.

    :param about: catalog file, shard folder and job.
    :param device: where to compute.
    :param dtype: precision.
    :param threads: threads of PyTorch.
    """

    def __init__(self, about: dict[str, Any], device: str | None, dtype: str, threads: int) -> None:
        import torch

        torch.set_num_threads(threads)
        self._catalog = Catalog.open(Path(about["catalog"]))
        self._shards = ShardFolder(about["folder"], about["job"])
        self._encoder = BiEncoder.from_config(about["job"]["config"], device=device, dtype=dtype)
        if self._encoder.content_hash != about["job"]["content_hash"]:
            raise ShardError(
                f"{self._encoder.model_id} is another model on this machine than where the job was started."
            )

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Embed the passages of a shard and write them."""
        made = {"number": row["number"], "count": row["end"] - row["first"], "error": row["error"]}
        if row["error"] or row["done"]:
            return made
        try:
            self._shards.run(row["number"], row["input"], lambda: self._embed(row))
        except BioRerankError as error:
            made["error"] = str(error)
        return made

    def _embed(self, row: dict[str, Any]) -> dict[str, Any]:
        passages = shard_passages(self._catalog, range(row["first"], row["end"]))
        fed = TokenFed(self._encoder, unpack(row["tokens"])) if row["tokens"] else self._encoder
        return embed_shard(passages, fed).to_arrays()
