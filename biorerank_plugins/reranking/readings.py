"""What the model reads of a sentence: itself, or itself in the words of the question, where it says them otherwise.

Out of its passage a sentence says "Idarucizumab reverses it". A model that reads question and sentence cannot know that
dabigatran is meant; and the sentence before it names dabigatran, and reverses nothing. No parser is needed to tell: of
all things that a pronoun may stand for, the one that matters is what the question asks about.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from biorerank_plugins.first_stage.analysis import is_stop_word, new_stemmer, words
from biorerank_plugins.reranking.answerable import ASKING
from biorerank_plugins.text.abbreviations import definitions_in
from biorerank_plugins.text.windows import Span

_PRONOUN = re.compile(r"\b(?:([Ii]t|[Tt]hey|them)|[Ii]ts|[Tt]heir)\b(?!(?: \w+){1,3} (?:that|whether)\b)")
"""Not that of "it is known that"; group 1 has those without a possessor."""
_WORD = re.compile(r"[^\W_]+(?:[-/][^\W_]+)*")
_DOING = frozenset(
    "used use given give taken take made make known called considered shown reported identified found find "
    "been being do done associated involved implicated related linked affect affected act acts work works "
    "play plays help helps mean means cause causes caused lead leads occur occurs begin begins last lasts "
    "exist present included contain contains treat treats treated cure cures prevent prevents protect "
    "protects reverse reverses block blocks inhibit inhibits stop stops kill kills reduce reduces lower "
    "lowers raise raises increase increases decrease decreases improve improves promote promotes trigger "
    "triggers induce induces bind binds interact interacts encode encodes produce produces secrete secretes "
    "release releases regulate regulates activate activates carry carries transmit transmits transmitted "
    "spread spreads metabolise metabolised metabolized eliminate eliminated located localized diagnosed "
    "determine determines measure measured tested evaluated approved developed required based stand stands".split()
)
"""What questions ask to be done; no pronoun stands for it."""


def readings(question: str, text: str, spans: Sequence[Span], title: str | None = None) -> list[tuple[str, ...]]:
    """Return what the model reads of each sentence of a passage; the mean of the logits is the sentence's.

    In place of a pronoun it reads what the sentence before, or the title, names of what the question asks about. An
    abbreviation that the passage defines, and that the question has in its other form, is read in both forms
    (``benchmarks/quality/sentences.py`` measures both).

    :param question: the question.
    :param text: of the passage.
    :param spans: its sentences, in order.
    :param title: of the article; stands before the first sentence.
    :returns: for each sentence one text or two.

    >>> text = "Dabigatran inhibits thrombin. Idarucizumab reverses it."
    >>> readings("What reverses dabigatran?", text, [(0, 29), (30, 55)])
    [('Dabigatran inhibits thrombin.',), ('Idarucizumab reverses Dabigatran.',)]
    """
    asked = _Asked(question)
    forms = _other_forms(question, definitions_in(f"{title or ''}. {text}"))
    before = title or ""
    found = []
    for start, end in spans:
        sentence = text[start:end]
        named = _named(sentence, before, asked)
        found.append(tuple(dict.fromkeys((named, _in_other_forms(named, forms)))))
        before = sentence
    return found


class _Asked:
    """What a question asks about: its words that say something, whatever their form."""

    def __init__(self, question: str) -> None:
        self._stem = new_stemmer()
        silent = ASKING | _DOING
        self._stems = {self._stem(word) for word in words(question) if word not in silent and not is_stop_word(word)}

    def in_words_of(self, text: str) -> str | None:
        """Return the longest run of these words in a text, as written there; the first of equally long ones."""
        most = length = start = end = 0
        longest = None
        for match in _WORD.finditer(text):
            if not self._asks_about(match[0]):
                length = 0
                continue
            if not (length and text[end : match.start()].isspace()):
                length, start = 0, match.start()
            length, end = length + 1, match.end()
            if length > most:
                most, longest = length, slice(start, end)
        return None if longest is None else text[longest]

    def _asks_about(self, word: str) -> bool:
        return any(self._stem(part) in self._stems for part in words(word))


def _named(sentence: str, before: str, asked: _Asked) -> str:
    """Return a sentence with a name in place of its pronouns, if one stands in the sentence before."""
    name = asked.in_words_of(before) if _PRONOUN.search(sentence) else None
    return sentence if name is None else _PRONOUN.sub(lambda match: name if match[1] else f"{name}'s", sentence)


def _other_forms(question: str, definitions: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    """Return the forms that a question has not, each with the one that it has."""
    found: dict[str, str] = {}
    for short, long_form in definitions:
        has_short, has_long = (_holds(question, form) for form in (short, long_form))
        if has_long and not has_short:
            found[short] = long_form
        elif has_short and not has_long:
            found[long_form] = short
    return found


def _in_other_forms(sentence: str, forms: Mapping[str, str]) -> str:
    for form, other in forms.items():
        if not _holds(sentence, other):  # "neuromyelitis optica (NMO)" has both
            sentence = _as_word(form).sub(other.replace("\\", r"\\"), sentence)
    return sentence


def _holds(text: str, form: str) -> bool:
    return _as_word(form).search(text) is not None


def _as_word(form: str) -> re.Pattern[str]:
    """Return a pattern of a form as a word of its own; a short form is written as it is, a long one in either case."""
    return re.compile(rf"(?<!\w){re.escape(form)}(?!\w)", re.NOFLAG if form.upper() == form else re.IGNORECASE)
