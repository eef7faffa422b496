"""Which way a loaded model scores pairs: our own pairs and batches, or ``CrossEncoder.predict`` itself."""

from __future__ import annotations

import logging
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch

from biorerank_plugins.runtime.plain_folder import PlainCrossEncoder
from biorerank_plugins.runtime.text_ids import UnsupportedTokenizerError
from biorerank_plugins.runtime.tokens import PairTokenizer
from biorerank_plugins.scoring.backends import Place, choose_backend
from biorerank_plugins.scoring.cross_encoder import CrossEncoderScorer, TokenScorer

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

    from biorerank_plugins.scoring.load_options import LoadOptions
    from biorerank_plugins.scoring.scores import Scorer

logger = logging.getLogger(__name__)

_POSITIONS_AFTER_PADDING = frozenset(
    "roberta xlm-roberta xlm-roberta-xl camembert data2vec-text longformer mpnet".split()
)


def scorer_for(name: str, model: CrossEncoder, place: Place, options: LoadOptions) -> Scorer:
    """Return the scorer of a cross-encoder that nobody else uses: it is moved and converted.

    :raises ModelError: if it cannot be run in the way that was asked for.
    """
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
    name: str,
    model: PlainCrossEncoder,
    place: Place,
    options: LoadOptions,
    *,
    stated: int | None = None,
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
        backend, batch_tokens = choose_backend(name, model.network, tokenizer, place, has_types=has_types)
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
