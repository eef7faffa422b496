"""Text becomes the terms that BM25 counts: folded, split into words, without stop words, stemmed.

Made for biomedical English, where a single sign can be what was asked for: words of one letter or digit count (the 6 of
IL-6, hepatitis B), a Greek letter is spelled out (TNF-α, TNFα and TNF-alpha are the same two terms), accents do not
matter (Sjögren, Sjogren), and sub- and superscripts are ordinary characters (Ca²⁺, CO₂).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import cache

from biorerank_plugins._common.progress import without_bars

ANALYSIS_VERSION = 1
"""Goes up whenever the same text would give other terms."""

_LETTERS = "αβγδεζηθικλμνξοπρστυφχψω"
_NAMES = (
    "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu "
    "nu xi omicron pi rho sigma tau upsilon phi chi psi omega"
).split()
_SPELLED = dict(zip(_LETTERS, _NAMES, strict=True))
_GREEK_LETTER = re.compile("(?<![α-ω])[α-ω](?![α-ω])")  # beside another one it is a part of a Greek word
_WORD = re.compile(r"[^\W_]+")
_SOFT_HYPHEN = "\u00ad"


def terms(text: str) -> list[str]:
    """Return the terms of a text, in order, repeated ones included.

    >>> terms("IL-6 and β-catenin in Sjögren's syndrome")
    ['il', '6', 'beta', 'catenin', 'sjogren', 's', 'syndrom']
    """
    stem = new_stemmer()
    return [stem(word) for word in words(text) if not is_stop_word(word)]


def words(text: str) -> list[str]:
    """Return the words of a text, folded."""
    return _WORD.findall(_fold(text))


def _fold(text: str) -> str:
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKD", text.replace(_SOFT_HYPHEN, "")).casefold()
    bare = "".join(character for character in folded if not unicodedata.combining(character))
    return _GREEK_LETTER.sub(lambda match: f" {_SPELLED.get(match[0], match[0])} ", bare)


def is_stop_word(word: str) -> bool:
    """Return whether a folded word says nothing: Lucene's 33 English ones, as bm25s lists them."""
    return word in _stop_words()


@cache
def _stop_words() -> frozenset[str]:
    with without_bars("DISABLE_TQDM"):
        from bm25s.stopwords import STOPWORDS_EN

    return frozenset(STOPWORDS_EN)


def new_stemmer() -> Callable[[str], str]:
    """Return a function that stems a word; each for one thread, since the library's stemmer keeps a cache."""
    import Stemmer

    stem: Callable[[str], str] = Stemmer.Stemmer("english").stemWord
    return stem


def stemmer_version() -> str:
    """Return the version of the stemmer: another one may stem a word in another way."""
    import Stemmer

    return str(Stemmer.version())
