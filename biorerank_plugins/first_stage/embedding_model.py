"""One transformer that turns texts into vectors: tokens, token-budget batches, pooling, normalisation."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch

from biorerank_plugins import models
from biorerank_plugins._common.forks import Lock
from biorerank_plugins.errors import ModelError
from biorerank_plugins.first_stage.arguments import check_length
from biorerank_plugins.first_stage.model_folder import EncoderSettings
from biorerank_plugins.runtime.computing import computing
from biorerank_plugins.runtime.devices import inference, refuse_in_child
from biorerank_plugins.runtime.memory import token_budget_batches
from biorerank_plugins.runtime.packed.bert import PackedLayers, attention_for
from biorerank_plugins.runtime.packed.byte_kernels import bytes_if_possible
from biorerank_plugins.runtime.packed.cpu_kernels import can_prepare
from biorerank_plugins.runtime.packed.families import places_of
from biorerank_plugins.runtime.packed.packing import Layout, packed, rounded
from biorerank_plugins.runtime.packed.plain_bert import PlainTokenizer, load_bert
from biorerank_plugins.runtime.packed.support import why_not_packed
from biorerank_plugins.runtime.plain_folder import quiet_loading
from biorerank_plugins.runtime.text_ids import warn_if_cased_vocabulary_is_lowered

if TYPE_CHECKING:
    from biorerank_plugins.first_stage.vectors import FloatArray

logger = logging.getLogger(__name__)

TextInput: TypeAlias = str | tuple[str, str]
"""A text, or a pair of title and text that the tokenizer joins with its separator."""

Role: TypeAlias = Literal["query", "passage"]

Tokens: TypeAlias = dict[str, list[int]]
"""Token ids of one input, and whatever else its tokenizer gives for each token, by name."""

TokenStates: TypeAlias = Callable[[Sequence[Tokens]], torch.Tensor]
"""From texts, at least one, to the states of all their tokens, text after text, fp32 [sum of lengths, dimension]."""

_BATCH_TOKENS_CPU = 4096  # what two layers' activations fit into a CPU's cache with; larger batches are slower
_BATCH_TOKENS_GPU = 32_768
_TOKENIZED_AT_ONCE = 1024

# Each makes one vector a text of the token vectors [sum of lengths, dimension].
_POOLING_FUNCTIONS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "mean": lambda states, lengths: torch.segment_reduce(states, "mean", lengths=lengths),
    "cls": lambda states, lengths: states[lengths.cumsum(0) - lengths],
    "max": lambda states, lengths: torch.segment_reduce(states, "max", lengths=lengths),
    "lasttoken": lambda states, lengths: states[lengths.cumsum(0) - 1],
}


class EmbeddingModel:
    """Vectors from one model folder, the same as ``SentenceTransformer.encode`` gives in fp32; for many threads.

    :param dtype: precision of the transformer; pooling and normalisation are done in fp32.
    :param pooling: one of ``model_folder.POOLINGS``, instead of what the folder says (``"mean"`` if it says nothing).
    :param normalize: whether to bring vectors to length 1, instead of what the folder says (no if it says nothing).
    """

    def __init__(
        self,
        folder: Path,
        settings: EncoderSettings,
        *,
        device: torch.device,
        dtype: torch.dtype,
        pooling: str | None = None,
        normalize: bool | None = None,
    ) -> None:
        self.pooling = next(choice for choice in (pooling, settings.pooling, "mean") if choice is not None)
        self.normalize = next(choice for choice in (normalize, settings.normalize, False) if choice is not None)
        self._pool = _POOLING_FUNCTIONS[self.pooling]
        self._device = device
        self._tokenizer, model, self._states = computing(partial(_load, folder, device, dtype))
        self._process = os.getpid()
        if self._tokenizer.is_fast:
            warn_if_cased_vocabulary_is_lowered(self._tokenizer.backend_tokenizer)
        # A fast tokenizer keeps truncation settings as state, so that two threads must not use it at once.
        self._tokenizing = Lock()
        self.lengths = self._tokenizer.num_special_tokens_to_add(pair=True) + 1, _longest_input(self._tokenizer, model)
        self.dimension = int(model.config.hidden_size)
        self.max_length = check_length(settings.max_length or self.lengths[1], self.lengths)
        self._batch_tokens = _BATCH_TOKENS_CPU if device.type == "cpu" else _BATCH_TOKENS_GPU

    def encode(self, inputs: Sequence[TextInput], max_length: int, *, prefix: str, role: Role) -> FloatArray:
        """Return one vector for each input, as :func:`tokenize` takes them; both roles are treated alike."""
        with self._tokenizing:
            encoded = tokenize(self._tokenizer, inputs, max_length, prefix=prefix)
        return self.embed(encoded)

    def embed(self, encoded: Sequence[Tokens]) -> FloatArray:
        """Return one vector for each of these inputs, which :func:`tokenize` made."""
        refuse_in_child(self._device, self._process)
        vectors = np.empty((len(encoded), self.dimension), dtype=np.float32)
        lengths = [len(item["input_ids"]) for item in encoded]
        for positions in token_budget_batches(lengths, self._batch_tokens):
            batch = partial(self._embed_batch, [encoded[position] for position in positions])
            # Batch by batch: scoring, which computes in the same thread, goes on in between.
            vectors[positions] = computing(batch, self._device)
        return vectors

    def _embed_batch(self, batch: Sequence[Tokens]) -> FloatArray:
        with inference(self._device):
            lengths = torch.tensor([len(item["input_ids"]) for item in batch], device=self._device)
            pooled = self._pool(self._states(batch), lengths)
            if self.normalize:
                pooled = torch.nn.functional.normalize(pooled, dim=-1)
            found: FloatArray = pooled.cpu().numpy()
            return found


def tokenize(tokenizer: Any, inputs: Sequence[TextInput], max_length: int, *, prefix: str) -> list[Tokens]:
    """Return what a model reads of each input; one thread at a time may use a tokenizer.

    :param inputs: texts or pairs; not mixed.
    :param max_length: number of tokens after which an input is cut, special tokens included.
    """
    encoded: list[Tokens] = []
    for start in range(0, len(inputs), _TOKENIZED_AT_ONCE):
        part = [_prefixed(item, prefix) for item in inputs[start : start + _TOKENIZED_AT_ONCE]]
        firsts = [item if isinstance(item, str) else item[0] for item in part]
        seconds = None if isinstance(part[0], str) else [item[1] for item in part]
        fields = tokenizer(
            firsts, seconds, truncation="longest_first", max_length=max_length, return_attention_mask=False
        )
        encoded += [dict(zip(fields, values, strict=True)) for values in zip(*fields.values(), strict=True)]
    return encoded


def _prefixed(item: TextInput, prefix: str) -> TextInput:
    return prefix + item if isinstance(item, str) else (prefix + item[0], item[1])


def _load(folder: Path, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any, TokenStates]:
    try:
        # On a CPU in fp32: what runs without padding is compared with the model's own forward first.
        tokenizer, model = _read(folder, torch.float32 if device.type == "cpu" else dtype)
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(f"The bi-encoder in {folder} cannot be loaded: {error}") from error
    if getattr(model.config, "is_encoder_decoder", False):
        raise ModelError(f"{folder} holds an encoder-decoder, which gives no vectors by itself.")
    return tokenizer, model, token_states(model, tokenizer, device, dtype)


def _read(folder: Path, dtype: torch.dtype) -> tuple[Any, Any]:
    if models.is_embedded(folder):
        return PlainTokenizer(folder), load_bert(folder)
    from transformers import AutoModel, AutoTokenizer

    with quiet_loading():
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        # Without a dtype transformers 5 takes the one the weights are stored in, slow on a CPU if that is fp16.
        model = AutoModel.from_pretrained(
            folder, dtype=dtype, use_safetensors=True, local_files_only=True, trust_remote_code=False
        )
    return tokenizer, model


def _longest_input(tokenizer: Any, model: Any) -> int:
    """Return the number of tokens that fit into the model's position table."""
    positions = getattr(model.config, "max_position_embeddings", None)
    limit = int(tokenizer.model_max_length)
    if positions is None or positions < 1:
        return limit
    table = getattr(getattr(model, "embeddings", None), "position_embeddings", None)
    padding = getattr(table, "padding_idx", None)
    # RoBERTa counts positions from one past the padding index.
    return min(limit, int(positions) - (0 if padding is None else int(padding) + 1))


def token_states(model: Any, tokenizer: Any, device: torch.device, dtype: torch.dtype) -> TokenStates:
    """Return the fastest way to run a model: without padding on a CPU, where its architecture is covered.

    :param model: a bi-encoder's transformer, not used by anyone else: it may be moved.
    """
    dtype = bytes_if_possible(dtype, device)
    why_not = why_not_packed(model, device, dtype) if device.type == "cpu" else f"it runs on {device}."
    if why_not is not None and dtype == torch.int8:
        raise ModelError(f"dtype='int8' is not possible for this bi-encoder: {why_not} Choose another dtype.")
    logger.info("%s runs %s.", type(model).__name__, "without padding" if why_not is None else f"padded: {why_not}")
    return PackedStates(model, dtype) if why_not is None else PaddedStates(model, tokenizer, device, dtype)


class PackedStates:
    """Texts one behind the other, on a CPU; ask :func:`~.why_not_packed` first."""

    def __init__(self, model: Any, dtype: torch.dtype) -> None:
        cpu = torch.device("cpu")
        self._places = places_of(model, has_types=True)
        in_bytes = dtype == torch.int8
        precision = torch.float32 if in_bytes else dtype
        self._network = PackedLayers(model, cpu, precision, attention_for(cpu)).eval()
        if in_bytes or can_prepare(dtype):
            self._network.prepare(in_bytes=in_bytes)

    def __call__(self, batch: Sequence[Tokens]) -> torch.Tensor:
        """Return what :data:`TokenStates` says."""
        texts: Any = [
            SimpleNamespace(ids=np.array(one["input_ids"], np.int32), types=np.array(_types(one), np.uint8))
            for one in batch
        ]
        exact = Layout.of(texts)
        layout = rounded(exact)
        flat = packed(texts, self._places, layout)
        states: torch.Tensor = self._network(*layout.split(torch.from_numpy(flat)), layout.longest)
        return states[: exact.tokens].float()


def _types(one: Tokens) -> list[int]:
    return one.get("token_type_ids") or [0] * len(one["input_ids"])


class PaddedStates:
    """Texts as long as the longest, through the model's own forward."""

    def __init__(self, model: Any, tokenizer: Any, device: torch.device, dtype: torch.dtype) -> None:
        self._model = model.to(device=device, dtype=dtype).eval()
        self._tokenizer = tokenizer
        self._device = device

    def __call__(self, batch: Sequence[Tokens]) -> torch.Tensor:
        """Return what :data:`TokenStates` says."""
        lengths = np.array([len(item["input_ids"]) for item in batch])
        real = np.arange(lengths.max()) < lengths[:, None]
        features = {"attention_mask": real.astype(np.int64)}
        for name in batch[0]:
            fill = self._tokenizer.pad_token_id if name == "input_ids" else self._tokenizer.pad_token_type_id
            padded = np.full(real.shape, fill or 0, dtype=np.int64)
            padded[real] = np.concatenate([item[name] for item in batch])
            features[name] = padded
        given = self._model(**{name: torch.from_numpy(values).to(self._device) for name, values in features.items()})
        states: torch.Tensor = given.last_hidden_state[torch.from_numpy(real).to(self._device)]
        return states.float()
