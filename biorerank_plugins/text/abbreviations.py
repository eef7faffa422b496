"""Abbreviations and what they stand for, as texts define them: "neuromyelitis optica (NMO)".

The algorithm of Schwartz and Hearst, A simple algorithm for identifying abbreviation definitions in biomedical text,
PSB 2003, with three rules more: a short form has two capital letters, or one and a digit; words whose initials are the
letters of the short form are its long form, though fewer words may have them; a long form of one word begins as the
short form does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

_PARENTHESES = re.compile(r"\(([^()\n]{2,120})\)")
_AFTER_FORM = re.compile(r"[;,]")
_SENTENCE_END = re.compile(r"[.!?;]\s|\n")
_LOOK_BACK = 300
"""Characters before a parenthesis that may hold a long form; it has 20 words at most."""
_SHORT_FORM = re.compile(r"[^\W_][\w\-/+.]*")
_WORD = re.compile(r"[^\W_]+")
_MIN_SHARE = 0.5


def definitions_in(text: str) -> Iterator[tuple[str, str]]:
    """Yield the abbreviations that a text defines, in order: short form, long form as written there, single-spaced.

    >>> list(definitions_in("Neuromyelitis optica (NMO) is rare; CRM (cis-regulatory modules) are not."))
    [('NMO', 'Neuromyelitis optica'), ('CRM', 'cis-regulatory modules')]
    """
    for match in _PARENTHESES.finditer(text):
        inside = _AFTER_FORM.split(match[1])[0].strip()
        before = _SENTENCE_END.split(text[max(0, match.start() - _LOOK_BACK) : match.start()])[-1].rstrip()
        if _is_short_form(inside):
            if (long_form := _long_form(inside, before)) is not None:
                yield inside, long_form
            continue
        words = before.split()
        if words and _is_short_form(words[-1]) and _long_form(words[-1], inside) == inside:
            yield words[-1], inside


def _is_short_form(text: str) -> bool:
    if not 2 <= len(text) <= 10 or not _SHORT_FORM.fullmatch(text):
        return False
    capitals = sum(character.isupper() for character in text)
    return capitals >= 2 or (capitals == 1 and any(character.isdigit() for character in text))


def _long_form(short: str, before: str) -> str | None:
    """Return the words at the end of a text whose letters a short form is made of; ``None`` if there are none."""
    window = " ".join(before.split()[-min(len(short) + 5, 2 * len(short)) :])
    letters = [character for character in short.lower() if character.isalnum()]
    singular = letters[:-1] if short.endswith("s") else letters
    place = _by_initials(singular, window)
    if place is None:
        place = _by_letters(letters, window)
    if place is None:
        return None
    long_form = window[window.rfind(" ", 0, place + 1) + 1 :]
    if len(long_form) <= len(short) or short in _WORD.findall(long_form):
        return None
    # One word may have the letters by chance: "orphan receptor (ROR)" is not about receptors.
    if len(_WORD.findall(long_form)) == 1 and not long_form.lower().startswith(short[:2].lower()):
        return None
    return long_form


def _by_initials(letters: Sequence[str], window: str) -> int | None:
    """Return where the last words start if their initials are the letters: of "proton pump inhibitor" all is PPI."""
    words = list(_WORD.finditer(window))[-len(letters) :]
    return words[0].start() if [word[0][0].lower() for word in words] == letters else None


def _by_letters(letters: Sequence[str], window: str) -> int | None:
    """Return where the shortest end of a text starts that has the letters in their order, the first as an initial."""
    place = len(window)
    for number, letter in enumerate(reversed(letters), 1):
        first = number == len(letters)
        place -= 1
        while place >= 0 and (window[place].lower() != letter or (first and place and window[place - 1].isalnum())):
            place -= 1
        if place < 0:
            return None
    return place


class Abbreviations:
    """What the short forms of a collection stand for, and how its long forms are abbreviated.

    :param pairs: short and long form, once for every text that defines them so. A short form stands for what most of
        its definitions say; one that no half of them agree on is left alone.
    """

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        meanings: dict[str, Counter[str]] = {}
        for short, long_form in pairs:
            meanings.setdefault(short, Counter())[_folded(long_form)] += 1
        self._long_of: dict[str, str] = {}
        uses: dict[str, tuple[int, str]] = {}
        for short in sorted(meanings):
            # Of equally frequent ones the first in the alphabet, whatever the order in which they were found.
            long_form, count = min(meanings[short].items(), key=lambda item: (-item[1], item[0]))
            if count < _MIN_SHARE * meanings[short].total():
                continue
            self._long_of[short] = long_form
            if count > uses.get(long_form, (0, ""))[0]:
                uses[long_form] = count, short
        self._short_of = {long_form: short for long_form, (_, short) in uses.items()}
        self._longest = max((long_form.count(" ") + 1 for long_form in self._short_of), default=0)

    def __len__(self) -> int:
        return len(self._long_of)

    def other_forms(self, query: str) -> str:
        """Return what a query's abbreviations stand for, and how its long forms are abbreviated.

        :returns: the forms that it does not have itself, with spaces between them; ``""`` if there are none.
        """
        if not self._long_of:
            return ""
        written = dict.fromkeys(form.rstrip(".-/+") for form in _SHORT_FORM.findall(query))
        words = _folded(query).split()
        said = f" {' '.join(words)} "
        found = [
            long_form
            for form in written
            if (long_form := self._long_of.get(form)) is not None and f" {long_form} " not in said
        ]
        for start in range(len(words)):
            for end in range(start + 1, min(start + self._longest, len(words)) + 1):
                short = self._short_of.get(" ".join(words[start:end]))
                if short is not None and short not in written:
                    found.append(short)
        return " ".join(dict.fromkeys(found))


def _folded(text: str) -> str:
    return " ".join(_WORD.findall(text.lower()))
