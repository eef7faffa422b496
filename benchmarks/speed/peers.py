"""FlashRank's and ``rerankers``' way of running a cross-encoder, with the weights of all other systems.

Their classes are used where they are installed. Else their calls are made without them: FlashRank's are one padded
batch of all passages, in the order given, through ONNX Runtime; ``rerankers``' are batches of 16 in the order given.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.speed.counting import Architecture
from benchmarks.speed.exported import export_onnx, need_cpu, onnx_session, root_logger_kept
from biorerank_plugins.speed.machine import free_memory
from biorerank_plugins.speed.rounds import NotPossibleError
from biorerank_plugins.speed.systems import Setting, System, tokenizer_of

if TYPE_CHECKING:
    from biorerank_plugins.speed.texts import Request

__all__ = ["bytes_of_batch", "flashrank", "rerankers"]

RERANKERS_BATCH_SIZE = 16
# FlashRank looks up the file of a model by its name: ours goes under the name of one that it knows.
_NAME = "ms-marco-MiniLM-L-12-v2"


def flashrank(setting: Setting, *, int8: bool = False) -> System:
    """``flashrank.Ranker``: one padded batch of all passages.

    :param setting: what all systems share.
    :param int8: weights quantised by ONNX Runtime's ``quantize_dynamic`` with its defaults.
    """
    need_cpu(setting, "FlashRank")
    model = _quantised(setting) if int8 else export_onnx(setting)
    kind = "int8" if int8 else "fp32"
    try:
        call, how = _flashrank_class(setting, model, kind), "FlashRank Ranker"
    except ImportError:
        call, how = _flashrank_call(setting, model), "FlashRank's calls (it is not installed)"
    sizes = Architecture.of(setting.folder)

    def prepare(request: Request) -> Any:
        free = free_memory()
        needed = bytes_of_batch(sizes, len(request.texts), max(request.lengths)) if sizes else 0
        if free is not None and needed > free:
            raise NotPossibleError(
                f"One batch of {len(request.texts)} passages padded to {max(request.lengths)} tokens takes at least "
                f"{needed / 1e9:.0f} GB; {free / 1e9:.0f} GB are free."
            )
        return request.query, [{"id": number, "text": text} for number, text in enumerate(request.texts)]

    def values(passages: Any) -> Any:
        scores = np.empty(len(passages))
        for passage in passages:
            scores[passage["id"]] = passage["score"]
        return scores

    return System(f"{how}, {kind}: one batch", "int8" if int8 else "float32", prepare, call, values)


def bytes_of_batch(sizes: Architecture, rows: int, longest: int) -> int:
    """Return the memory that one padded fp32 batch takes at least: scores and weights of attention beside a layer.

    :param sizes: of the model.
    :param rows: pairs.
    :param longest: tokens that every pair is padded to.
    """
    attention = 2 * rows * sizes.heads * longest * longest
    layer = rows * longest * (4 * sizes.hidden + sizes.intermediate)
    return 4 * (attention + layer)


def _quantised(setting: Setting) -> Path:
    from onnxruntime.quantization import quantize_dynamic

    target = setting.work / "model-int8.onnx"
    if not target.exists():
        with root_logger_kept():
            quantize_dynamic(export_onnx(setting), target)
    return target


def _flashrank_class(setting: Setting, model: Path, kind: str) -> Any:
    from flashrank import Ranker, RerankRequest
    from flashrank.Config import model_file_map
    from transformers import AutoConfig, AutoTokenizer

    folder = setting.work / f"flashrank-{kind}" / _NAME
    folder.mkdir(parents=True)
    words: Any = AutoTokenizer.from_pretrained(setting.folder, local_files_only=True)
    words.save_pretrained(folder)
    config: Any = AutoConfig.from_pretrained(setting.folder, local_files_only=True)
    (folder / "config.json").write_text(json.dumps({"pad_token_id": config.pad_token_id or 0}))
    special = {name: str(token) for name, token in words.special_tokens_map.items() if isinstance(token, str)}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    shutil.copyfile(model, folder / model_file_map[_NAME])
    with root_logger_kept():
        ranker: Any = Ranker(_NAME, cache_dir=str(folder.parent), max_length=setting.max_length, log_level="ERROR")
    ranker.session = onnx_session(model, setting.threads)

    def call(given: Any) -> Any:
        query, passages = given
        return ranker.rerank(RerankRequest(query=query, passages=passages))

    return call


def _flashrank_call(setting: Setting, model: Path) -> Any:
    from transformers import AutoTokenizer

    words: Any = AutoTokenizer.from_pretrained(setting.folder, local_files_only=True)
    tokenizer = tokenizer_of(setting.folder)
    tokenizer.enable_truncation(setting.max_length)
    tokenizer.enable_padding(pad_id=words.pad_token_id, pad_token=words.pad_token)
    session = onnx_session(model, setting.threads)
    has_types = any(given.name == "token_type_ids" for given in session.get_inputs())

    def call(given: Any) -> Any:
        query, passages = given
        encoded = tokenizer.encode_batch([(query, passage["text"]) for passage in passages])
        columns = {"input_ids": "ids", "attention_mask": "attention_mask"}
        columns |= {"token_type_ids": "type_ids"} if has_types else {}
        inputs = {
            name: np.array([getattr(pair, column) for pair in encoded], np.int64) for name, column in columns.items()
        }
        logits = session.run(None, inputs)[0].reshape(-1)
        for passage, score in zip(passages, 1 / (1 + np.exp(-logits)), strict=True):
            passage["score"] = score
        return sorted(passages, key=lambda passage: -passage["score"])

    return call


@dataclass(frozen=True, slots=True)
class _Line:
    position: int
    score: float


def rerankers(setting: Setting) -> System:
    """``rerankers.Reranker``, whose class for cross-encoders is ``TransformerRanker``, with its defaults."""
    try:
        call, how = _rerankers_class(setting), "rerankers TransformerRanker"
    except ImportError:
        call, how = _rerankers_call(setting), "rerankers' calls (it is not installed)"

    def values(lines: Any) -> Any:
        scores = np.empty(len(lines))
        for line in lines:
            scores[line.position] = line.score
        return scores

    way = f"{how}, fp32, batch_size={RERANKERS_BATCH_SIZE}"
    return System(way, "float32", lambda r: (r.query, list(r.texts)), call, values, are_logits=True)


def _rerankers_class(setting: Setting) -> Any:
    import torch
    from rerankers.models.transformer_ranker import TransformerRanker

    from biorerank_plugins.speed.rerankers import assert_dtype

    ranker: Any = TransformerRanker(
        str(setting.folder),
        device=setting.device,
        verbose=0,
        tokenizer_kwargs={"model_max_length": setting.max_length},
    )
    assert_dtype(ranker.model, torch.float32)

    def call(given: Any) -> Any:
        query, texts = given
        found = ranker.rank(query=query, docs=texts)
        return [_Line(line.document.doc_id, line.score) for line in found.results]

    return call


def _rerankers_call(setting: Setting) -> Any:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    words: Any = AutoTokenizer.from_pretrained(
        setting.folder, model_max_length=setting.max_length, local_files_only=True
    )
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        setting.folder, dtype=torch.float32, local_files_only=True
    )
    model.to(setting.device).eval()

    @torch.inference_mode()
    def call(given: Any) -> Any:
        query, texts = given
        scores: list[float] = []
        for start in range(0, len(texts), RERANKERS_BATCH_SIZE):
            pairs = [(query, text) for text in texts[start : start + RERANKERS_BATCH_SIZE]]
            inputs = words(pairs, return_tensors="pt", padding=True, truncation=True).to(setting.device)
            scores += model(**inputs).logits.reshape(-1).cpu().tolist()
        return sorted((_Line(n, score) for n, score in enumerate(scores)), key=lambda line: -line.score)

    return call
