"""Words that the tiny models know, and texts of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

WORDS = "p53 tumours suppresses aspirin platelets heart failure cells insulin lowers glucose brca1 gene the of".split()


def texts_of(n: int, *, longest: int = 40, seed: int = 0, words: Sequence[str] = WORDS) -> list[str]:
    """Texts of random words, of 1 to ``longest - 1`` words."""
    draw = np.random.default_rng(seed)
    return [" ".join(draw.choice(words, draw.integers(1, longest))) for _ in range(n)]
