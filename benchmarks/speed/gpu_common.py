"""What the parts of the GPU benchmark share: sizes, models, pairs, backends and clocks."""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer
from transformers.utils import logging as transformers_logging

from biorerank_plugins import models
from biorerank_plugins.runtime.tokens import EncodedPair, PairTokenizer
from biorerank_plugins.scoring.packed.backend import packed_backend
from biorerank_plugins.scoring.torch_backend import TorchBackend
from biorerank_plugins.scoring.worker import BatchWorker
from biorerank_plugins.speed.counting import Architecture
from biorerank_plugins.speed.models import SHAPES, random_model
from biorerank_plugins.speed.roofline import Roofline
from biorerank_plugins.speed.texts import Mix, make_requests, read_source, tokenizer_of

transformers_logging.disable_progress_bar()

VARIANTS: dict[str, dict[str, Any]] = {
    "kernels": {"graph_tokens": 0},
    "graphs": {},
    "fused": {"fused": True},
    "compiled": {"compiled": True, "graph_tokens": 0},
    "compiled graphs": {"compiled": True},
}
"""Options of the packed backend on CUDA."""
SLOW_TO_START = ("compiled", "compiled graphs")


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    shapes: dict[str, Architecture]
    pairs: dict[str, int]
    budgets: tuple[int, ...]
    rounds: int
    requests: int
    candidates: int
    texts: int
    questions: int
    st_batches: tuple[int, ...]


FULL = Sizes(
    shapes={name: SHAPES[name] for name in ("minilm-l6", "bert-base")},
    pairs={"minilm-l6": 16_384, "bert-base": 4_096},
    budgets=(16_384, 32_768, 65_536, 131_072),
    rounds=5,
    requests=200,
    candidates=100,
    texts=8_192,
    questions=60,
    st_batches=(32, 128, 512),
)
SMOKE = Sizes(
    shapes={"tiny": Architecture(layers=2, hidden=32, intermediate=64, heads=4)},
    pairs={"tiny": 12},
    budgets=(1_024,),
    rounds=1,
    requests=3,
    candidates=4,
    texts=16,
    questions=2,
    st_batches=(4,),
)


@dataclass
class Bench:
    """What is measured, where."""

    device: torch.device
    sizes: Sizes
    work: Path
    roofline: Roofline | None = None
    report: dict[str, Any] = field(default_factory=dict)
    _folders: dict[str, Path] = field(default_factory=dict)

    @property
    def halves(self) -> tuple[torch.dtype, ...]:
        return (torch.float16, torch.bfloat16) if self.device.type == "cuda" else (torch.bfloat16,)

    @cached_property
    def tokenizer_folder(self) -> Path:
        """The embedded reranker's, or a vocabulary learned from the demo collection where it was not brought along."""
        embedded = models.path(models.DEFAULT_RERANKER)
        return embedded if (embedded / "tokenizer.json").is_file() else learned_tokenizer(self.work / "tokenizer")

    @property
    def embedded(self) -> Path | None:
        folder = models.path(models.DEFAULT_RERANKER)
        return folder if (folder / "model.safetensors").is_file() else None

    def folder(self, shape: str) -> Path:
        """A cross-encoder of a shape, with random weights."""
        if shape not in self._folders:
            room = Path(tempfile.mkdtemp(dir=self.work))
            self._folders[shape] = random_model(self.sizes.shapes[shape], room, tokenizer=self.tokenizer_folder)
        return self._folders[shape]

    def backend(self, folder: Path, dtype: torch.dtype, variant: str) -> Any:
        """The packed backend in one of the VARIANTS, or ``"padded"``: the torch backend."""
        network = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
        common = {"device": self.device, "dtype": dtype, "pad_id": 0, "has_types": True}
        if variant == "padded":
            return TorchBackend(network, **common)
        options = VARIANTS[variant] if self.device.type == "cuda" else {}
        return packed_backend(network, **common, **options)

    def worker(self, backend: Any, tokens: int) -> BatchWorker:
        start = getattr(backend, "start", None)
        return BatchWorker(backend.forward, tokens, start=start, padded=start is None)

    def tokenizer(self) -> PairTokenizer:
        return PairTokenizer(AutoTokenizer.from_pretrained(self.tokenizer_folder), max_length=512, query_max_length=128)

    @cached_property
    def texts(self) -> list[tuple[str, tuple[str, ...]]]:
        """Questions with texts of about 150 tokens a pair."""
        count = max(1, self.sizes.texts // 128)
        requests = make_requests(
            read_source(None),
            Mix.parse("150"),
            tokenizer_of(self.tokenizer_folder),
            count=count,
            candidates=min(128, self.sizes.texts),
            max_length=512,
        )
        return [(request.query, request.texts) for request in requests]

    def synchronize(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def learned_tokenizer(folder: Path) -> Path:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import BertTokenizerFast

    source = read_source(None)
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer, tokenizer.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(vocab_size=30_522, special_tokens=special, show_progress=False)
    tokenizer.train_from_iterator([*source.passages, *source.queries], trainer)
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    BertTokenizerFast(tokenizer_object=tokenizer, model_max_length=512).save_pretrained(folder)
    return folder


def random_pairs(lengths: Sequence[int], *, words: int, seed: int = 0) -> list[EncodedPair]:
    draw = np.random.default_rng(seed)
    pairs = []
    for length in lengths:
        types = np.ones(length, np.uint8)
        types[: min(length, 20)] = 0
        pairs.append(EncodedPair(draw.integers(5, words, length).astype(np.int32), types, False, False))
    return pairs


def seconds_of(call: Callable[[], object], times: int, *, before: int = 1) -> list[float]:
    """Seconds of each call; each gives its logits on the host, so that nothing is left on its way."""
    for _ in range(before):
        call()
    taken = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        taken.append(time.perf_counter() - started)
    return taken


def in_turn(call: Callable[[Any], object], given: Sequence[Any]) -> Callable[[], object]:
    """A call that takes the next of what is given each time: nothing is scored twice in a row."""
    turn = itertools.cycle(given)
    return lambda: call(next(turn))


def percentiles(seconds: Sequence[float]) -> dict[str, float]:
    p50, p95 = np.percentile(seconds, [50, 95]) * 1000
    return {"p50_ms": round(float(p50), 3), "p95_ms": round(float(p95), 3)}


def rate(pairs: int, seconds: Sequence[float]) -> float:
    return round(pairs / statistics.median(seconds), 1)


def nothing(_: int) -> None:
    """The check of a request without a time limit."""


def name_of(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
