"""What a person should know about a question before the answer is read."""

from __future__ import annotations

import re
import unicodedata

LONG_QUESTION = 1000  # characters; the embedded reranker reads 128 tokens, some 600 characters

_WORD = re.compile(r"[^\W\d_]+")
_ENGLISH = frozenset(
    "a an and are as at be been between by can could did do does for from had has have how if in into is it its may "
    "not of on or should than that the their there these this to was were what when where which who why will "
    "with".split()
)
# Words of question and sentence structure that are no English words.
_FOREIGN = frozenset(
    "der das den dem ist sind wird werden welche welcher welches wie warum bei mit für von eine einen einer auf nicht "
    "durch kann können und gegen les des du une est sont quel quelle quels quelles pour dans avec sur comment pourquoi "
    "chez et el los las una qué que cuál cuáles para con por cómo del es y il lo gli della delle quale quali per che "
    "sono nel quais qual não são uma dos das em het een welke voor van wordt zijn bir ve için nedir hangi".split()
)


def question_notes(question: str) -> list[str]:
    """Return sentences for the person who asks: the question is long, or is probably not in English.

    Nothing here keeps a question from being asked.

    :param question: as it was typed.

    >>> question_notes("Welche Medikamente werden bei der Behandlung von Gicht eingesetzt?")
    ['The models read English: asked in another language, they find less. Ask in English if you can.']
    >>> question_notes("Which drugs are used in gout?")
    []
    """
    notes = []
    if len(question) > LONG_QUESTION:
        notes.append(
            f"The question has {len(question):,} characters; the models read its beginning only. Put what matters into "
            "one or two sentences."
        )
    if _is_foreign(question[:LONG_QUESTION]):
        notes.append("The models read English: asked in another language, they find less. Ask in English if you can.")
    return notes


def _is_foreign(text: str) -> bool:
    # A Greek letter by itself stands in English questions too (omega-3): only words of several letters count.
    letters = [letter for word in _WORD.findall(text) if len(word) > 1 for letter in word]
    other_script = sum("LATIN" not in unicodedata.name(letter, "") for letter in letters)
    if letters and other_script > len(letters) / 3:
        return True
    words = [word.casefold() for word in _WORD.findall(text)]
    foreign, english = (sum(word in known for word in words) for known in (_FOREIGN, _ENGLISH))
    return foreign >= 2 and foreign > english
