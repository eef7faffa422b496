"""Vocabularies with capitals behind tokenizers that lower-case: BioBERT's files on the hub miss a tokenizer config."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

logger = logging.getLogger(__name__)


def lowers_cased_vocabulary(tokenizer: Tokenizer) -> bool:
    """Return whether capitals of a vocabulary can never be reached.

    :param tokenizer: a tokenizer of the library ``tokenizers``.
    """
    normalizer = tokenizer.normalizer
    if normalizer is None or normalizer.normalize_str("A") != "a":
        return False
    capitals, entries = _capitals(tokenizer)
    return capitals > 0.05 * entries


def warn_if_cased_vocabulary_is_lowered(tokenizer: Tokenizer) -> None:
    """Warn when capitals of a vocabulary can never be reached."""
    if lowers_cased_vocabulary(tokenizer):
        logger.warning(
            "The tokenizer lower-cases text but its vocabulary is cased (%d of %d entries have capitals): scores will "
            "suffer. Save the model with do_lower_case=False in its tokenizer configuration.",
            *_capitals(tokenizer),
        )


def _capitals(tokenizer: Tokenizer) -> tuple[int, int]:
    """Return how many entries of a vocabulary have capitals, and how many there are, special ones left out."""
    tokens = [token for token in tokenizer.get_vocab() if not token.startswith(("[", "<"))]
    # ASCII only: byte-level vocabularies write a space as a capital letter (Ġ).
    return sum(1 for token in tokens if any("A" <= letter <= "Z" for letter in token)), len(tokens)
