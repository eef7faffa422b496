"""What Ray's workers do with the rows of a shard: tokenise on processors, then embed and write."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from biorerank_plugins.errors import BioRerankError, ShardError
from biorerank_plugins.first_stage.catalog import Catalog
from biorerank_plugins.first_stage.encoder import BiEncoder, passage_input
from biorerank_plugins.first_stage.model_folder import find_model_folder, read_settings
from biorerank_plugins.passages import Passage
from biorerank_plugins.scale.shard_folder import ShardFolder
from biorerank_plugins.scale.shards import embed_shard, fingerprint, shard_passages

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.token_states import Tokens
    from biorerank_plugins.first_stage.vectors import FloatArray


class PassageTokenizer:
    """Tokenises passages as a bi-encoder with this configuration does; for one thread.

    :param config: what :meth:`BiEncoder.config` returned.
    :raises ModelError: if there is no such model.
    """

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


class TokenFed:
    """A bi-encoder whose passages come in order and were tokenised before; what :func:`.shards.embed_shard` needs.

    :param encoder: the bi-encoder.
    :param tokens: tokens of all passages, in the order in which they will be asked for.
    """

    def __init__(self, encoder: BiEncoder, tokens: Sequence[Tokens]) -> None:
        self.dimension = encoder.dimension
        self.model_id = encoder.model_id
        self.content_hash = encoder.content_hash
        self.config = encoder.config
        self.encode_queries = encoder.encode_queries
        self._encoder = encoder
        self._tokens = tokens
        self._given = 0

    def encode_passages(self, passages: Sequence[Passage]) -> FloatArray:
        """Return the vectors of the next ``len(passages)`` passages."""
        part = self._tokens[self._given : self._given + len(passages)]
        self._given += len(passages)
        return self._encoder.embed_tokens(part)


def pack(tokens: Sequence[Tokens]) -> bytes:
    """Return tokens as bytes: one array a field, and where each passage ends."""
    from safetensors.numpy import save

    names = list(tokens[0]) if tokens else []
    ends = np.cumsum([len(item["input_ids"]) for item in tokens], dtype=np.int64)
    flat = {name: np.concatenate([np.asarray(item[name], dtype=np.int32) for item in tokens]) for name in names}
    return save({"ends": ends, **{f"field.{name}": values for name, values in flat.items()}})


def unpack(packed: bytes) -> list[Tokens]:
    """Return the tokens that :func:`pack` was given."""
    from safetensors.numpy import load

    arrays = load(packed)
    if not len(arrays["ends"]):
        return []
    ends = arrays.pop("ends").tolist()
    fields = {name.removeprefix("field."): values.tolist() for name, values in arrays.items()}
    return [
        {name: values[start:end] for name, values in fields.items()}
        for start, end in zip([0, *ends[:-1]], ends, strict=True)
    ]


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
