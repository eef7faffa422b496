"""Small random models of the families that are covered, pairs for them, and what transformers itself gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from biorerank_plugins.runtime.tokens import EncodedPair
from biorerank_plugins.scoring.packed.packing import Layout

CPU = torch.device("cpu")
WORDS = 90
SIZES = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position_embeddings": 66,
    "num_labels": 1,
    "initializer_range": 0.3,  # large enough that different pairs get clearly different logits
}
FAMILIES = {
    "bert": ("Bert", {"type_vocab_size": 2}),
    "bert-relu": ("Bert", {"type_vocab_size": 2, "hidden_act": "relu"}),
    "bert-new-gelu": ("Bert", {"type_vocab_size": 3, "hidden_act": "gelu_new", "layer_norm_eps": 1e-5}),
    "one-layer": ("Bert", {"num_hidden_layers": 1}),
    "electra": ("Electra", {"embedding_size": 16, "type_vocab_size": 2}),
    "roberta": ("Roberta", {"type_vocab_size": 1, "pad_token_id": 1}),
    "xlm-roberta": ("XLMRoberta", {"type_vocab_size": 1, "pad_token_id": 1}),
}
HAVE_TYPES = ("bert", "bert-relu", "bert-new-gelu", "one-layer", "electra")


def make_model(family: str = "bert", seed: int = 0, **options: object) -> Any:
    import transformers

    name, own = FAMILIES[family]
    config = getattr(transformers, f"{name}Config")(**{**SIZES, **own, **options})
    torch.manual_seed(seed)
    model = getattr(transformers, f"{name}ForSequenceClassification")(config)
    with torch.no_grad():
        for parameter in model.parameters():  # biases and norms too: a lost one must show
            parameter += 0.1 * torch.randn_like(parameter)
    return model.eval()


def make_pairs(*lengths: int, seed: int = 0, least: int = 2, types: int = 2) -> list[EncodedPair]:
    draw = np.random.default_rng(seed)
    return [
        EncodedPair(
            draw.integers(least, WORDS, length).astype(np.int32),
            np.sort(draw.integers(0, types, length)).astype(np.uint8),
            False,
            False,
        )
        for length in lengths
    ]


@torch.inference_mode()
def padded_logits(model: Any, pairs: Sequence[EncodedPair], *, has_types: bool = True) -> np.ndarray:
    """What the model's own forward gives for one padded batch."""
    longest = max(len(pair.ids) for pair in pairs)
    ids = torch.full((len(pairs), longest), model.config.pad_token_id)
    mask, types = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, pair in enumerate(pairs):
        ids[row, : len(pair.ids)] = torch.from_numpy(pair.ids)
        types[row, : len(pair.ids)] = torch.from_numpy(pair.types)
        mask[row, : len(pair.ids)] = 1
    more = {"token_type_ids": types} if has_types else {}
    return model(input_ids=ids, attention_mask=mask, **more).logits.reshape(-1).float().numpy()


class HostLane:
    """The CPU in the place of a device; it notes what was asked of it, and gives nothing until it is waited for."""

    def __init__(self, device: torch.device) -> None:
        self.inside = 0
        self.allocated: list[int] = []
        self.moments = 0
        self.waited = 0

    def __enter__(self) -> None:
        self.inside += 1

    def __exit__(self, *error: object) -> None:
        self.inside -= 1

    def host_memory(self, size: int, dtype: torch.dtype) -> torch.Tensor:
        self.allocated.append(size)
        return torch.full((size,), 7, dtype=dtype)  # whatever stood there before

    def moment(self) -> HostLane:
        assert self.inside
        self.moments += 1
        return self

    def synchronize(self) -> None:
        self.waited += 1


class HostGraphs:
    """Stands for captured graphs: fixed sizes, one buffer each, and a result that the next replay overwrites."""

    def __init__(self, lane: HostLane, network: Any) -> None:
        self.network = network
        self.captured: list[Layout] = []
        self.replayed: list[Layout] = []
        self.fail: str | None = None

    def __call__(self, layout: Layout, host: torch.Tensor, pairs: int) -> Any:
        if self.fail:
            raise RuntimeError(self.fail)
        self.captured.append(layout)
        static, logits = torch.empty(layout.size, dtype=torch.int32), torch.full((layout.pairs,), torch.nan)

        def replay(packed: torch.Tensor) -> torch.Tensor:
            assert packed.shape == static.shape
            self.replayed.append(layout)
            static.copy_(packed)
            logits.copy_(self.network(*layout.split(static), layout.longest))
            return logits

        return replay
