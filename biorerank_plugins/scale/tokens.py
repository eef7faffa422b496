"""Tokenising apart from encoding, so that processors feed an encoder on a GPU; without the encoder's weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from biorerank_plugins.first_stage.encoder import BiEncoder, passage_input
from biorerank_plugins.first_stage.model_folder import find_model_folder, read_settings
from biorerank_plugins.passages import Passage

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.token_states import Tokens
    from biorerank_plugins.first_stage.vectors import FloatArray

__all__ = ["PassageTokenizer", "TokenFed", "pack", "unpack"]


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
