"""How a model is run: our own pairs and batches or ``CrossEncoder.predict``, on which backend, in which precision."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch

from biorerank_plugins.errors import ModelError
from biorerank_plugins.runtime.devices import BACKENDS, device_and_dtype
from biorerank_plugins.runtime.packed.byte_kernels import adds_in_16_bits, bytes_if_possible
from biorerank_plugins.runtime.packed.support import why_not_packed
from biorerank_plugins.runtime.plain_folder import PlainCrossEncoder
from biorerank_plugins.runtime.text_ids import UnsupportedTokenizerError
from biorerank_plugins.runtime.tokens import PairTokenizer
from biorerank_plugins.scoring.cross_encoder import CrossEncoderScorer, TokenScorer
from biorerank_plugins.scoring.packed_backend import PackedBackend
from biorerank_plugins.scoring.torch_backend import Backend, TorchBackend

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

    from biorerank_plugins.scoring.load_options import LoadOptions
    from biorerank_plugins.scoring.scores import Scorer

logger = logging.getLogger(__name__)

# Tokens a batch. On a CPU what matters is that activations stay in the cache; on a GPU that it has work to do. In int8
# smaller batches pay with VNNI, and cost an eighth with AVX2 alone.
_BATCH_TOKENS, _BYTES_BATCH_TOKENS = 2_048, 1_024
_GPU_BATCH_TOKENS = 32_768
_POSITIONS_AFTER_PADDING = frozenset(
    "roberta xlm-roberta xlm-roberta-xl camembert data2vec-text longformer mpnet".split()
)


def where_to_compute(
    backend: str, device: str | torch.device | None, dtype: str | torch.dtype | None
) -> tuple[torch.device, torch.dtype]:
    """Return device and precision for what a user asks for.

    :raises ValueError: if a name is unknown, or the three do not go together; the message says what does.
    """
    if backend not in BACKENDS:
        raise ValueError(f"backend={backend!r} is unknown. Choose one of: {', '.join(BACKENDS)}.")
    place = device_and_dtype(device, dtype)
    if place[1] == torch.int8 and backend == "torch":
        raise ValueError("dtype='int8' needs backend='packed' (or 'auto'); got backend='torch'.")
    return place


@dataclass(frozen=True, slots=True)
class Place:
    """Where and how a model computes."""

    backend: str
    device: torch.device
    dtype: torch.dtype | None  # ``None`` keeps what the model has

    def refuse_if_asked_for(self, name: str, why: str) -> None:
        """Raise if a model is to run without padding, or in int8, and cannot; ``why`` is a sentence."""
        if self.backend == "packed" or self.dtype == torch.int8:
            wish = "dtype='int8'" if self.dtype == torch.int8 else "backend='packed'"
            raise ModelError(f"{wish} is not possible for {name} here: {why} Choose backend='auto' and another dtype.")


def _choose_backend(
    name: str, model: Any, tokenizer: PairTokenizer, place: Place, *, has_types: bool
) -> tuple[Backend, int]:
    """Return what runs a model, which may be moved, and the tokens a batch that suit it.

    ``"auto"`` takes the forward pass without padding where it covers the model and the device, else transformers' own.
    Where int8 is not possible, the best precision of this CPU is taken, with a warning.
    """
    assert place.dtype is not None
    device, dtype = place.device, bytes_if_possible(place.dtype, place.device)
    common: dict[str, Any] = {"device": device, "dtype": dtype, "has_types": has_types, "pad_id": tokenizer.pad_id}
    int8 = dtype == torch.int8
    on_cpu = _BYTES_BATCH_TOKENS if int8 and not adds_in_16_bits() else _BATCH_TOKENS
    why = "asked for" if place.backend == "torch" else why_not_packed(model, device, dtype)
    if why is None:
        kind = "packed"
        chosen: Backend = PackedBackend(model, **common)
        asked = "int8 was asked for" if int8 else "asked for" if place.backend == "packed" else None
        why = asked or "no padding, and this model allows it"
    else:
        replace(place, dtype=dtype).refuse_if_asked_for(name, why)
        kind = "torch"
        chosen = TorchBackend(model, **common)
    computes_in = str(chosen.dtype).removeprefix("torch.")
    logger.info("%s runs on backend %s in %s on %s: %s.", name, kind, computes_in, chosen.device, why.rstrip("."))
    return chosen, on_cpu if device.type == "cpu" else _GPU_BATCH_TOKENS


def scorer_for(name: str, model: CrossEncoder, place: Place, options: LoadOptions) -> Scorer:
    """Return the scorer of a cross-encoder that nobody else uses: it is moved and converted."""
    why = _not_covered(model)
    if why is None:
        plain = PlainCrossEncoder(model.model, model.tokenizer, model.activation_fn)
        try:
            return token_scorer(name, plain, place, options, stated=model.max_seq_length)
        except UnsupportedTokenizerError as error:
            why = str(error)
    place.refuse_if_asked_for(name, why)
    logger.info("%s runs through CrossEncoder.predict: %s", name, why)
    own = model.max_seq_length
    if own is None or own > options.max_length:
        model.max_seq_length = options.max_length
    return CrossEncoderScorer(name, model.to(device=place.device, dtype=place.dtype))


def token_scorer(
    name: str, model: PlainCrossEncoder, place: Place, options: LoadOptions, *, stated: int | None = None
) -> TokenScorer:
    """Return the scorer that builds pairs and batches itself; the model is moved and converted.

    :param stated: longest pair that the model states; ``None`` takes the tokenizer's.
    :raises UnsupportedTokenizerError: if pairs cannot be built by us.
    """
    limits = (
        options.max_length,
        model.tokenizer.model_max_length if stated is None else stated,
        position_limit(model.network.config),
    )
    limit = min(limit for limit in limits if isinstance(limit, int) and limit > 0)
    tokenizer = PairTokenizer(
        model.tokenizer, max_length=limit, query_max_length=min(options.query_max_length, max(1, limit // 2))
    )
    # A tokenizer may give segment ids that the model does not take, as BERT's beside a DistilBERT.
    has_types = tokenizer.has_types and "token_type_ids" in signature(model.network.forward).parameters
    with torch.autocast(place.device.type, enabled=False):  # the caller's must not reach what is compared and fitted
        backend, batch_tokens = _choose_backend(name, model.network, tokenizer, place, has_types=has_types)
    given = options.max_batch_tokens
    return TokenScorer(name, tokenizer, backend, model.activation, batch_tokens if given is None else given)


def _not_covered(model: CrossEncoder) -> str | None:
    """Return why the token path does not compute what ``CrossEncoder.predict`` does for this model, if so."""
    if model.backend != "torch":
        return f"it runs on {model.backend}."
    transformer: Any = model[0]
    if len(list(model.children())) != 1 or getattr(transformer, "transformer_task", None) != "sequence-classification":
        return "it is not one sequence-classification model."
    if "message" in transformer.modality_config:
        return "it puts its input into a chat template."
    if transformer.processing_kwargs:
        return "it has its own settings of the tokenizer."
    if model.default_prompt_name is not None:
        return f"it puts the prompt {model.default_prompt_name!r} before its input."
    if getattr(transformer, "do_lower_case", False):
        return "it lower-cases its input by itself."
    return None


def position_limit(config: Any) -> int | None:
    """Return the number of tokens that a model has positions for; ``None`` if its configuration does not say."""
    positions = getattr(config, "max_position_embeddings", None)
    # RoBERTa's family counts positions from behind the padding token's.
    used = 2 if getattr(config, "model_type", "") in _POSITIONS_AFTER_PADDING else 0
    return positions - used if isinstance(positions, int) and positions > used else None
