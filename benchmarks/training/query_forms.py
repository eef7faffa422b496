"""Other ways of asking: claims and keyword phrases made from judged questions.

A reranker that only ever sees questions forgets how to match anything else. The judgements of a question hold for its
other forms too: the first sentence of an expert's answer is a claim that the same passages support, and the words of
the question without its grammar are the phrase that somebody types into a search box.
"""

from __future__ import annotations

import re

__all__ = ["claim_from_answer", "phrase_from_question"]

_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9])")
_VERDICT = re.compile(r"^(?:yes|no|yes and no|maybe)\b[\s,.:;!-]*", re.IGNORECASE)
_REFERS_BACK = re.compile(
    r"^(?:it|its|they|their|this|that|these|those|he|she|there|here|such|both)\b"
    r"|^according to|\bthe (?:above|question)\b",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\s?!,;:()\[\]\"]+")
_GRAMMAR = frozenset(
    """a about above after all also among an and any are as at be because been before being below between both but by
    can cause caused causes could currently define definition describe did different do does during each effect effects
    exist exists explain for from get give had has have how if in include included includes including into is it its
    known list main many may mechanism mechanisms mention most much must name of on or other our over please possible
    present provide related role shall should some such tell than that the their them then there these they this those
    through to type types under up use used using utilized was we were what when where whether which while who whom
    whose why will with would you your available common associated association function main involved""".split()
)


def claim_from_answer(answer: str, *, min_words: int = 5, max_words: int = 45) -> str | None:
    """Return the first sentence of an answer as a claim that stands on its own.

    :param answer: an expert's answer, one or more sentences.
    :param min_words: shorter sentences say too little.
    :param max_words: longer ones are no claims but summaries.
    :returns: the claim without a leading yes or no, or ``None`` if the sentence refers to what stands elsewhere.

    >>> claim_from_answer("Yes, aspirin irreversibly inhibits platelet cyclooxygenase. It acts within minutes.")
    'Aspirin irreversibly inhibits platelet cyclooxygenase.'
    """
    text = _VERDICT.sub("", " ".join(answer.split()))
    claim = _SENTENCE_END.split(text)[0]
    if not min_words <= len(claim.split()) <= max_words or _REFERS_BACK.search(claim):
        return None
    return claim[0].upper() + claim[1:]


def phrase_from_question(question: str, *, min_words: int = 1, max_words: int = 8) -> str | None:
    """Return the words of a question that carry its topic, in their order.

    :param question: the question.
    :param min_words: with fewer words left there is no phrase.
    :param max_words: with more words left it is no phrase either.
    :returns: the phrase, or ``None``.

    >>> phrase_from_question("What is the role of Gata3 in Th2 cells?")
    'Gata3 Th2 cells'
    """
    words = [word.strip(".'") for word in _WORD.findall(question)]
    kept = [word for word in words if word and word.lower() not in _GRAMMAR]
    return " ".join(kept) if min_words <= len(kept) <= max_words else None
