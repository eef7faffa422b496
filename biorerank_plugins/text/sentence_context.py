"""A sentence with what it needs to be understood: title and the sentence before it."""

from __future__ import annotations

from collections.abc import Sequence

from biorerank_plugins.text.windows import Span

__all__ = ["in_context", "sentences_in_context"]


def in_context(sentence: str, *context: str | None) -> str:
    """Return a sentence followed by its context in brackets: what is cut off at the end is context first.

    :param sentence: the sentence that is judged.
    :param context: title, sentences before it; those that are empty or the sentence itself are left out.

    >>> in_context("It is reversed by idarucizumab.", "Bleeding", "Dabigatran is a thrombin inhibitor.")
    'It is reversed by idarucizumab. [Bleeding. Dabigatran is a thrombin inhibitor.]'
    """
    kept = dict.fromkeys(text.strip() for text in context if text and text.strip() != sentence.strip())
    told = " ".join(text if text[-1] in ".?!:;" else f"{text}." for text in kept if text)
    return f"{sentence} [{told}]" if told else sentence


def sentences_in_context(text: str, spans: Sequence[Span], title: str | None = None) -> list[str]:
    """Return the sentences of a text, each with the title and the sentence before it.

    Where there is no title the first sentence takes its place: in an abstract it names what the rest refers to.

    :param text: the text.
    :param spans: its sentences, in order.
    :param title: of the article, if it is known.
    """
    sentences = [text[start:end] for start, end in spans]
    topic = (title or "").strip() or (sentences[0] if sentences else None)
    return [in_context(own, topic, sentences[n - 1] if n else None) for n, own in enumerate(sentences)]
