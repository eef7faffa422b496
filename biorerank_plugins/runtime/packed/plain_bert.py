"""BERT and its tokenizer from a folder alone: importing transformers takes longer than all else in a first ranking."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class PlainTokenizer:
    """A fast BERT tokenizer, of a folder's ``tokenizer.json`` and ``tokenizer_config.json`` as of transformers 5.

    :raises OSError, ValueError, KeyError: if they are damaged.
    """

    is_fast = True
    model_input_names = ("input_ids", "token_type_ids", "attention_mask")
    pad_token_type_id = 0

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        about = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        if about["tokenizer_class"] not in ("BertTokenizer", "BertTokenizerFast"):
            raise ValueError("It is no tokenizer of BERT.")
        text = (folder / "tokenizer.json").read_text(encoding="utf-8")
        try:
            self.backend_tokenizer = Tokenizer.from_str(text)
        except Exception as error:  # the library raises nothing narrower
            raise ValueError(f"tokenizer.json is damaged: {error}") from error
        self.backend_tokenizer.no_padding()
        self.padding_side, self.truncation_side = about["padding_side"], about["truncation_side"]
        self.model_max_length = int(about["model_max_length"])
        self.pad_token_id: int = self.backend_tokenizer.get_vocab()[about["pad_token"]]
        self.vocab_size = int(self.backend_tokenizer.get_vocab_size(with_added_tokens=False))

    def num_special_tokens_to_add(self, pair: bool = False) -> int:
        """Return how many tokens stand around a text or a pair."""
        return int(self.backend_tokenizer.num_special_tokens_to_add(pair))

    def __call__(
        self,
        text: str | Sequence[str],
        text_pair: str | Sequence[str] | None = None,
        *,
        truncation: str | None = None,
        max_length: int | None = None,
        return_attention_mask: Literal[False] = False,
    ) -> dict[str, Any]:
        """Return token and segment ids of a text, a pair, or of several; nothing is cut without ``truncation``."""
        if truncation is None:
            self.backend_tokenizer.no_truncation()
        else:
            self.backend_tokenizer.enable_truncation(max_length or self.model_max_length, strategy=truncation)
        if isinstance(text, str):
            one = self.backend_tokenizer.encode(text, text_pair)
            return {"input_ids": one.ids, "token_type_ids": one.type_ids}
        inputs = list(text) if text_pair is None else list(zip(text, text_pair, strict=True))
        many = self.backend_tokenizer.encode_batch_fast(inputs)
        return {"input_ids": [one.ids for one in many], "token_type_ids": [one.type_ids for one in many]}


class PlainBert(nn.Module):
    """What ``BertForSequenceClassification`` and ``BertModel`` compute, in modules of the same names."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        (self.architecture,) = config["architectures"]
        labels = len(config.get("id2label") or {0: 0, 1: 1})
        self.config = SimpleNamespace(**config, num_labels=labels)
        width = config["hidden_size"]
        layers = nn.ModuleList(_layer(config) for _ in range(config["num_hidden_layers"]))
        parts = {
            "embeddings": _embeddings(config),
            "encoder": nn.ModuleDict({"layer": layers}),
            "pooler": nn.ModuleDict({"dense": nn.Linear(width, width)}),
        }
        if self.architecture == "BertModel":
            for name, part in parts.items():
                self.add_module(name, part)
        else:
            self.bert = nn.ModuleDict(parts)
            self.classifier = nn.Linear(width, labels)

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> SimpleNamespace:
        """Return ``last_hidden_state`` [N, T, width] and, with a head, ``logits`` [N, labels]."""
        base: Any = getattr(self, "bert", self)
        tables = base.embeddings
        x = tables.word_embeddings(input_ids)
        x = x + tables.token_type_embeddings(torch.zeros_like(input_ids) if token_type_ids is None else token_type_ids)
        x = tables.LayerNorm(x + tables.position_embeddings.weight[: input_ids.shape[1]])
        mask = attention_mask[:, None, None, :].bool()
        for layer in base.encoder.layer:
            read = layer.attention.output.dense(layer.attention.get_submodule("self")(x, mask))
            x = layer.attention.output.LayerNorm(read + x)
            risen = layer.intermediate.intermediate_act_fn(layer.intermediate.dense(x))
            x = layer.output.LayerNorm(layer.output.dense(risen) + x)
        if base is self:
            return SimpleNamespace(last_hidden_state=x)
        return SimpleNamespace(last_hidden_state=x, logits=self.classifier(base.pooler.dense(x[:, 0]).tanh()))


class _SelfAttention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.num_attention_heads, self.attention_head_size = heads, width // heads
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        shape = (self.num_attention_heads, self.attention_head_size)
        q, k, v = (part(x).unflatten(-1, shape).transpose(1, 2) for part in (self.query, self.key, self.value))
        return scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


def _embeddings(config: dict[str, Any]) -> nn.ModuleDict:
    width = config["hidden_size"]

    def table(rows: int, padding: int | None = None) -> nn.Embedding:
        # Given a weight, it draws none: on the meta device that would import torch's compiler, for a second.
        return nn.Embedding(rows, width, padding_idx=padding, _weight=torch.empty(rows, width))

    return nn.ModuleDict(
        {
            "word_embeddings": table(config["vocab_size"], config["pad_token_id"]),
            "position_embeddings": table(config["max_position_embeddings"]),
            "token_type_embeddings": table(config["type_vocab_size"]),
            "LayerNorm": _norm(config),
        }
    )


def _layer(config: dict[str, Any]) -> nn.ModuleDict:
    width, inner = config["hidden_size"], config["intermediate_size"]
    after, output = (
        nn.ModuleDict({"dense": nn.Linear(size, width), "LayerNorm": _norm(config)}) for size in (width, inner)
    )
    attention = nn.ModuleDict({"self": _SelfAttention(width, config["num_attention_heads"]), "output": after})
    rise = nn.ModuleDict({"dense": nn.Linear(width, inner), "intermediate_act_fn": nn.GELU()})
    return nn.ModuleDict({"attention": attention, "intermediate": rise, "output": output})


def _norm(config: dict[str, Any]) -> nn.LayerNorm:
    return nn.LayerNorm(config["hidden_size"], eps=config["layer_norm_eps"])


def load_bert(folder: Path) -> PlainBert:
    """Load a folder with ``model_type`` bert, GELU, absolute positions and one safetensors file, in fp32.

    :raises ValueError, RuntimeError, KeyError, OSError: if it is damaged, or another model's.

    >>> from biorerank_plugins import models
    >>> load_bert(models.path(models.DEFAULT_RERANKER)).architecture
    'BertForSequenceClassification'
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if (config["model_type"], config["hidden_act"], config["position_embedding_type"]) != ("bert", "gelu", "absolute"):
        raise ValueError("It is no BERT with GELU and absolute positions.")
    with torch.device("meta"):  # what is loaded needs no random weights first
        network = PlainBert(config)
    try:
        weights = {name: weight.float() for name, weight in load_file(folder / "model.safetensors").items()}
    except SafetensorError as error:
        raise ValueError(f"model.safetensors is damaged: {error}") from error
    network.load_state_dict(weights, assign=True)
    return network.requires_grad_(False).eval()
