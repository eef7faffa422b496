"""What the adapters share: which text of a host's object the model reads, and how errors and settings look."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, get_args

from biorerank_plugins._common.checks import positive_number
from biorerank_plugins.articles.boosts import Boosts
from biorerank_plugins.models.stored import stored_template
from biorerank_plugins.passages import Candidate, Passage, RankedPassage, Ranking
from biorerank_plugins.reranking.options import RankOptions
from biorerank_plugins.reranking.reranker import BioReranker
from biorerank_plugins.text.templates import Template

if TYPE_CHECKING:
    from biorerank_plugins.first_stage import PassageIndex

logger = logging.getLogger(__name__)

OnBad: TypeAlias = Literal["error", "skip"]
"""What an adapter does with objects to index that have no text."""

# Metadata keys of ours.
FIRST_STAGE_KEY = "biorerank_first_stage"  # under which our retrievers say what their scores are
RETRACTED_KEY = "biorerank_retracted"  # True where ``retracted="flag"`` found a retracted article
BOOST_KEY = "biorerank_boost"  # what was added to the logit for the article's year and kind, where something was
EVIDENCE_KEY = "biorerank_evidence"  # the best sentences: text, offsets in what was ranked, score, probability
ANSWER_KEY = "biorerank_answer"  # what the ranking says of its question: ``answered``, ``not_sure`` or ``nothing``
MARKS = (EVIDENCE_KEY, ANSWER_KEY, RETRACTED_KEY, BOOST_KEY)
"""Metadata keys that an earlier ranking may have left."""

RANK_SETTINGS = ("min_score", "min_probability", "evidence", "fusion", "deduplicate", "retracted", "effort", "timeout")
"""Settings of an adapter that a ranking is given as they are."""

LOAD_SETTINGS = (
    *("device", "dtype", "backend", "max_length", "query_max_length", "query_prefix", "document_prefix"),
    *("revision", "token", "cache_folder", "local_files_only"),
)
"""Settings of an adapter that its reranker is given as they are."""

_DEEPEST = 50  # containers in containers


class HostTexts:
    """Decides what the model reads of a host's object.

    A model that stores a template was trained on texts written that way, and a caller's template is an order: both get
    title and plain text. Any other model gets exactly the text that the host's own reranker would send it.

    :param model: as :class:`~biorerank_plugins.BioReranker` takes it.
    :param template: the caller's template, if any.

    >>> HostTexts("biorerank-minilm-l6", None).own
    True
    """

    def __init__(self, model: object, template: Template | None) -> None:
        self.own = template is not None or stored_template(model) is not None
        """Whether the model's template is used, rather than the host's text."""
        self.template: Template | None = template if self.own else "{text}"
        """What to give to :class:`~biorerank_plugins.BioReranker` as its template."""

    def passage(
        self,
        id_: str,
        text: str,
        metadata: Mapping[str, Any],
        host_text: Callable[[], str],
        *,
        title_key: str = "title",
    ) -> Passage:
        """Return a host's object as a passage.

        :param text: its plain text.
        :param host_text: makes the text that the host's own reranker would send.
        :param title_key: metadata key of the title.
        """
        if not self.own:
            return Passage(id_, host_text(), metadata=metadata)
        return Passage(id_, text, title=title_of(metadata, title_key), metadata=metadata)


def title_of(metadata: Mapping[str, Any], key: str = "title") -> str | None:
    """Return the title that the metadata of a host's object hold, if any."""
    title = metadata.get(key)
    return None if title is None else str(title)


def host_candidate(passage: Passage, score: Any, rank: int, metadata: Mapping[str, Any]) -> Candidate:
    """Return a candidate with the score that the host's object carries.

    :param score: the host's retrieval score; ``None`` and NaN are no score.
    :param rank: place in the host's list, from 1.
    :param metadata: may say which first stage the score is of.
    """
    first_stage = metadata.get(FIRST_STAGE_KEY)
    return Candidate(passage, kept_score(score), rank, first_stage if isinstance(first_stage, str) else None)


def copied_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of a host's metadata that a new object may have for its own.

    Copied as deeply as it can be: what refuses (a lock, a client, an open file) is the same object in both, since a
    ranking that was computed must not fail for something that nobody reads.

    >>> import threading
    >>> given = {"lock": threading.Lock(), "tags": ["a"]}
    >>> made = copied_metadata(given)
    >>> made["lock"] is given["lock"], made["tags"] is given["tags"]
    (True, False)
    """
    return {key: _copied(value) for key, value in metadata.items()}


def _copied(value: Any, above: tuple[int, ...] = ()) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception:
        if id(value) in above or len(above) > _DEEPEST:
            return value
        inside = (*above, id(value))
        if type(value) is dict:
            return {key: _copied(item, inside) for key, item in value.items()}
        return [_copied(item, inside) for item in value] if type(value) is list else value


def ranking_marks(ranking: Ranking, ranked: RankedPassage) -> dict[str, Any]:
    """Return what a host's object says beside its score, as plain JSON types; nothing where there is nothing to say.

    :returns: by :data:`MARKS`; a sentence of evidence has ``text``, ``start``, ``end``, ``score`` and ``probability``.
    """
    marks = {
        EVIDENCE_KEY: [asdict(sentence) for sentence in ranked.evidence],
        ANSWER_KEY: None if ranking.answerability is None else ranking.answerability.state,
        RETRACTED_KEY: ranked.retracted,
        BOOST_KEY: ranked.boost,
    }
    return {key: value for key, value in marks.items() if value}


def check_rank_option(name: str, value: Any) -> Any:
    """Return one option of a ranking, as :class:`~biorerank_plugins.reranking.options.RankOptions` checks it.

    :param value: boosts may be given as their settings by name.
    :returns: the value in plain types, which a host can save.
    :raises ValueError: if it is impossible.
    :raises TypeError: if boosts are neither.

    >>> check_rank_option("boosts", {"recency_half_life_years": 5})["recency_weight"]
    1.0
    """
    if name == "timeout":
        return None if value is None else positive_number("timeout", value)
    if name == "boosts":
        boosts = boosts_of(value)
        given = [] if boosts is None else [(one.name, getattr(boosts, one.name)) for one in fields(boosts)]
        return {name: dict(one) if isinstance(one, Mapping) else one for name, one in given} or None
    return getattr(RankOptions(**{name: value}), name)


def rank_keywords(settings: Any, names: Iterable[str] = RANK_SETTINGS) -> dict[str, Any]:
    """Return what :meth:`~biorerank_plugins.BioReranker.rank` is given.

    :param settings: an adapter with an attribute for each name, and ``boosts``.
    :param names: which settings go along as they are.
    """
    return {"boosts": boosts_of(settings.boosts), **{name: getattr(settings, name) for name in names}}


def make_reranker(settings: Any, model: Any, template: Template | None) -> BioReranker:
    """Return the reranker of an adapter; its model is loaded at the first use.

    :param settings: an adapter with an attribute for each of :data:`LOAD_SETTINGS`, and ``batch_size``: batches hold
        ``batch_size * max_length`` tokens.
    """
    tokens = None if settings.batch_size is None else settings.batch_size * settings.max_length
    given = {name: getattr(settings, name) for name in LOAD_SETTINGS}
    return BioReranker(model, template=template, max_batch_tokens=tokens, **given)


def boosts_of(settings: Boosts | Mapping[str, Any] | None) -> Boosts | None:
    """Return boosts of :class:`~biorerank_plugins.Boosts` or of their settings by name."""
    if settings is None or isinstance(settings, Boosts):
        return settings
    if not isinstance(settings, Mapping):
        raise TypeError(f"boosts must be Boosts, their settings by name, or None; got {settings!r:.80}.")
    known = [one.name for one in fields(Boosts)]
    if unknown := sorted(set(map(str, settings)) - set(known)):
        raise ValueError(f"boosts: {', '.join(unknown)} unknown. Known are {', '.join(known)}.")
    return Boosts(**settings)


def kept_score(score: Any) -> float | None:
    """Return a retrieval score as a finite Python float, or ``None`` if it is none.

    >>> kept_score(float("nan")) is None
    True
    """
    if score is None or isinstance(score, bool):
        return None
    try:
        value = float(score)
    except (OverflowError, TypeError, ValueError):
        return None
    return value if value - value == 0.0 else None  # neither NaN nor infinite


def saved_model_name(model: object) -> str | None:
    """Return a model as it can be written into a saved pipeline.

    :raises ValueError: if it is an object: only names and folders can be saved.
    """
    if model is None or isinstance(model, (str, os.PathLike)):
        return None if model is None else str(os.fspath(model))
    raise ValueError(
        f"model is a {type(model).__name__} object, which cannot be saved. Save the model to a folder and pass the "
        "folder, or pass the name of a model."
    )


def index_passages(passages: Iterable[Passage], on_bad: OnBad, **options: Any) -> tuple[PassageIndex, tuple[str, ...]]:
    """Index what a host wants indexed; what has no text, as an image, is left out if asked for, and told in the log.

    :param on_bad: ``"error"`` indexes all: the index refuses the first without text, by its id.
    :param options: of :meth:`~biorerank_plugins.PassageIndex.build`.
    :returns: the index, and the ids of what was left out.
    :raises ValueError: if ``on_bad`` is something else.
    """
    from biorerank_plugins.first_stage import PassageIndex

    check_on_bad(on_bad)
    left_out: list[str] = []

    def with_text() -> Iterator[Passage]:
        for passage in passages:
            if on_bad == "error" or passage.text.strip():
                yield passage
            else:
                left_out.append(passage.id)
        if left_out:
            few = ", ".join(map(repr, left_out[:5])) + (", …" if len(left_out) > 5 else "")
            logger.warning("Without text and left out: %d of the objects to index (%s).", len(left_out), few)

    return PassageIndex.build(with_text(), **options), tuple(left_out)


def check_on_bad(on_bad: str) -> OnBad:
    """Return what to do with objects that have no text; raise ``ValueError`` if it is neither of the two."""
    if on_bad not in get_args(OnBad):
        raise ValueError(f"on_bad must be 'error' or 'skip', got {on_bad!r}.")
    return cast(OnBad, on_bad)
