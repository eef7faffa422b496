"""BERT on ONNX Runtime, on a CPU: token ids in, logits out; in fp32, or with int8 products."""

from __future__ import annotations

import csv
import ctypes
import logging
import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from biorerank_plugins import telemetry
from biorerank_plugins._common.forks import renew_in_child
from biorerank_plugins.errors import MissingExtraError, ModelError
from biorerank_plugins.runtime.devices import cpu_adds_bytes_exactly
from biorerank_plugins.runtime.packed.attention import reference_attention
from biorerank_plugins.runtime.packed.bert import PackedBert
from biorerank_plugins.runtime.packed.families import base_of, family_of, places_of
from biorerank_plugins.runtime.packed.packing import Layout, packed
from biorerank_plugins.runtime.packed.support import why_not_packed
from biorerank_plugins.runtime.tokens import EncodedPair, PairTokenizer
from biorerank_plugins.scoring.onnx.files import built_once, content_key
from biorerank_plugins.scoring.onnx.graph import GRAPH_VERSION, activation_name, bert_graph
from biorerank_plugins.scoring.onnx.quantization import FIT_VERSION, MOST_STEPS, SAFE_STEPS, fit_quantization
from biorerank_plugins.scoring.torch_backend import TorchBackend

if TYPE_CHECKING:
    from numpy.typing import NDArray

logger = logging.getLogger(__name__)

_FORBIDDEN = np.float32(-1e9)  # added to the products of a query with padding
_CPU = torch.device("cpu")
_LARGEST = 1_900_000_000  # bytes; protobuf's limit is 2 GiB


def why_not_onnx(model: Any, device: torch.device) -> str | None:
    """Return why ONNX Runtime cannot run a model here, as a sentence; ``None`` if it can.

    :param model: a transformers sequence-classification model.
    :param device: where it would run.
    """
    if device.type != "cpu":
        return f"it runs on a CPU, not on {device}."
    return why_not_packed(model, _CPU, torch.float32) or _distances(model) or _no_operator(model) or _too_large(model)


def _distances(model: Any) -> str | None:
    if family_of(model).distances:
        return "its attention adds a bias for distances, which the graph does not."
    return None


def _no_operator(model: Any) -> str | None:
    try:
        activation_name(_layers(model)[0].intermediate.intermediate_act_fn)
    except ValueError as error:
        return str(error)
    return None


def _too_large(model: Any) -> str | None:
    size = 4 * sum(weight.numel() for weight in model.parameters())
    return f"it has {size / 1e9:.1f} GB of weights; an ONNX file holds 2 GB." if size > _LARGEST else None


def _layers(model: Any) -> Any:
    return base_of(model).encoder.layer


class OnnxBackend:
    """Runs a model on ONNX Runtime.

    The model is exported, and quantised, once; the file is kept in the user's cache folder under a hash of the weights.
    The first use with int8 therefore takes half a minute (a MiniLM) to some minutes (a BERT-base) longer. With int8
    each layer has fixed ranges, fitted on the package's demo collection, so a logit does not depend on the passages
    beside it; it differs from the fp32 logit by about 0.1 (root mean square, embedded model).
    The torch model stays in memory beside it, for logits that are not finite. Threads are torch's at loading time.

    :param model: a sequence-classification model with one label of BERT's kind, not used by anyone else.
    :param dtype: ``torch.int8`` or ``torch.float32``.
    :param tokenizer: builds the pairs that int8 is fitted on.
    :param has_types: whether the model takes segment ids.
    :raises ModelError: if the model cannot be exported.
    :raises MissingExtraError: if ONNX Runtime is not installed.

    >>> backend = OnnxBackend(network, dtype=torch.int8, tokenizer=pairs, has_types=True)  # doctest: +SKIP
    >>> backend.forward(pairs.encode([("low phosphate", "Burosumab raises phosphate.")]))  # doctest: +SKIP
    array([2.9], dtype=float32)
    """

    device = _CPU

    def __init__(self, model: Any, *, dtype: torch.dtype, tokenizer: PairTokenizer, has_types: bool) -> None:
        _require_runtime()
        reason = why_not_onnx(model, _CPU)
        if reason is not None:
            raise ModelError(f"backend='onnx' is not possible for this model: {reason} Choose backend='torch'.")
        self.dtype = dtype
        self._places = places_of(model, has_types=has_types)
        # Where ONNX Runtime gives a number that is none, and for the layers' inputs that int8 is fitted on.
        self._exact = TorchBackend(
            model, device=_CPU, dtype=torch.float32, pad_id=tokenizer.pad_id, has_types=has_types
        )
        network = PackedBert(model, _CPU, torch.float32, reference_attention).eval()
        precision = "int8" if dtype == torch.int8 else "float32"
        # Quantised for the CPU that runs: a file that another kind of CPU left in a shared folder has another name.
        steps = MOST_STEPS if cpu_adds_bytes_exactly() else SAFE_STEPS
        kind = precision if dtype != torch.int8 or steps == MOST_STEPS else f"{precision} {steps}"
        about = f"{GRAPH_VERSION} {FIT_VERSION} {kind} {has_types} {model.config.to_json_string()}"
        fitting = quantization_pairs(tokenizer, self._places.longest) if dtype == torch.int8 else []
        # The pairs are part of the key: another tokenizer gives other ids, and so other ranges.
        ids = {f"pair {i}": torch.from_numpy(pair.ids) for i, pair in enumerate(fitting)}
        key = content_key({**network.state_dict(), **ids}, about)

        def build() -> bytes:
            fitted = {}
            if dtype == torch.int8:
                logger.info("Fitting int8 scales; this is done once for a model.")
                fitted = fit_quantization(_layers(model), fitting, self._exact.forward, steps=steps)
            content: bytes = bert_graph(network, fitted).SerializeToString()
            return content

        self._source: bytes | str = b""
        self._session: Any = built_once(f"{key}-{precision}", build, self._open)
        renew_in_child(self)

    def renew(self) -> None:
        """Forget the session, in a child process: its threads are the parent's, and it may wait for them for ever."""
        # Freeing it would wait too, at the latest when Python ends: one reference more, that nobody gives back.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))
        self._session = None

    def _open(self, source: bytes | str) -> Any:
        self._source = source
        return _session(source)

    def forward(self, pairs: Sequence[EncodedPair]) -> NDArray[np.float32]:
        """Return the logits of one batch, float32 [n]. One that is not finite is computed again by torch in fp32.

        :param pairs: the batch, at least one pair; it is padded to its longest pair.
        :raises ValueError: if a pair does not fit the model.
        """
        logits = self._run(pairs)
        if np.isfinite(logits).all():
            return logits
        logger.warning("ONNX Runtime gave a logit that is not finite; the batch is computed again in fp32 by torch.")
        telemetry.count("fallbacks")
        return self._exact.forward(pairs)

    def _run(self, pairs: Sequence[EncodedPair]) -> NDArray[np.float32]:
        if self._session is None:
            self._session = _session(self._source)
        try:
            logits: NDArray[np.float32] = self._session.run(None, self._padded(pairs))[0]
        except Exception as error:  # ONNX Runtime's errors have no common class, and none for memory
            if "failed to allocate" in str(error).lower() or "bad_alloc" in str(error):
                raise MemoryError(str(error)) from error
            raise
        return logits

    def _padded(self, pairs: Sequence[EncodedPair]) -> dict[str, NDArray[Any]]:
        layout = Layout.of(pairs)
        parts = layout.split(packed(pairs, self._places, layout))
        inside = np.arange(layout.longest) < np.diff(parts.offsets)[:, None]
        ids, places = (np.zeros(inside.shape, np.int32) for _ in range(2))
        ids[inside], places[inside] = parts.ids, parts.places
        return {"ids": ids, "places": places, "mask": np.where(inside, np.float32(0), _FORBIDDEN)}


def _require_runtime() -> None:
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("backend='onnx'", "onnx") from error


def _session(content: bytes | str) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    options.enable_mem_pattern = False  # each batch has another shape; a plan for each would stay in memory
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


_ANSWERS, _OTHERS = 2, 3  # passages a question
_LONGEST, _QUERY = 512, 128  # tokens of a pair, and of a query
_SEED = 20_261_123


def quantization_pairs(tokenizer: PairTokenizer, longest: int) -> list[EncodedPair]:
    """Return about 300 pairs of the demo collection, most of them sentences and a few of a paragraph.

    :param tokenizer: builds the pairs, at full length whatever its own limits are: what is fitted is kept, for users
        with other limits too.
    :param longest: tokens that the model has positions for.
    """
    from biorerank_plugins import demo
    from biorerank_plugins.readers import read_passages, read_queries

    folder = Path(demo.__file__).parent
    texts = {p.id: f"{p.title}. {p.text}" if p.title else p.text for p in read_passages(folder / "corpus.jsonl")}
    answers: dict[str, list[str]] = {}
    with (folder / "qrels" / "test.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            answers.setdefault(row["query-id"], []).append(row["corpus-id"])
    draw = random.Random(_SEED)
    pairs = []
    for query in read_queries(folder / "queries.jsonl"):
        chosen = [*answers.get(query.id, [])[:_ANSWERS], *draw.sample(sorted(texts), _OTHERS)]
        pairs += [(query.text, texts[passage]) for passage in chosen]
    # A few long ones: their positions and lengths would not be seen otherwise.
    questions = [query for query, _ in pairs[::20]]
    pairs += [(query, " ".join(draw.sample(sorted(texts.values()), 8))) for query in questions]
    return tokenizer.with_limits(min(longest, _LONGEST), min(_QUERY, longest // 2)).encode(pairs)
