"""What Ray's workers do with the rows of a shard: tokenise on processors, then embed and write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from biorerank_plugins.errors import BioRerankError, ShardError
from biorerank_plugins.first_stage.catalog import Catalog
from biorerank_plugins.first_stage.encoder import BiEncoder, passage_input
from biorerank_plugins.first_stage.model_folder import find_model_folder, read_settings
from biorerank_plugins.passages import Passage
from biorerank_plugins.scale.shard_folder import ShardFolder
from biorerank_plugins.scale.shards import embed_shard, fingerprint

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.embedding_model import Tokens


class PassageTokenizer:
    """Tokenises passages as the bi-encoder with this :meth:`~BiEncoder.config` does; for one thread."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        from transformers import AutoTokenizer

        from biorerank_plugins.runtime.plain_folder import quiet_loading

        self._config = config
        folder = find_model_folder(config["model"], revision=config["revision"])
        self._tokenizer: Any = None
        if not read_settings(folder).unusual:  # those run through sentence-transformers, which tokenises for itself
            with quiet_loading():
                self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)

    def __call__(self, passages: Sequence[Passage]) -> list[Tokens] | None:
        """Return the tokens of each passage; ``None`` if the model tokenises for itself."""
        if self._tokenizer is None:
            return None
        from biorerank_plugins.first_stage.embedding_model import tokenize

        inputs = [passage_input(passage, self._config["title"]) for passage in passages]
        return tokenize(self._tokenizer, inputs, self._config["max_length"], prefix=self._config["passage_prefix"])


def fed(encoder: BiEncoder, tokens: Iterable[Tokens]) -> Any:
    """Return what :func:`.shards.embed_shard` needs of a bi-encoder whose passages were tokenised, in their order."""
    coming = iter(tokens)
    return SimpleNamespace(
        dimension=encoder.dimension,
        model_id=encoder.model_id,
        encode_passages=lambda passages: encoder.embed_tokens(list(islice(coming, len(passages)))),
    )


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
        passages = self._catalog.in_order(range(row["first"], row["end"]))
        wanted = fingerprint(passages)
        made: dict[str, Any] = {**row, "input": wanted, "tokens": "", "done": False, "error": ""}
        try:
            made["done"] = self._shards.done(row["number"], wanted) is not None
            if not made["done"]:
                self._tokenizer = self._tokenizer or PassageTokenizer(self._config)
                tokens = self._tokenizer(passages)
                made["tokens"] = "" if tokens is None else json.dumps(tokens)
        except BioRerankError as error:
            made["error"] = str(error)
        return made


class Encode:
    """Row of a shard with its tokens ► its vectors, in a file; ``about`` is that of :class:`Tokenise`."""

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
        passages = self._catalog.in_order(range(row["first"], row["end"]))
        encoder = fed(self._encoder, json.loads(row["tokens"])) if row["tokens"] else self._encoder
        return embed_shard(passages, encoder).to_arrays()
