"""The options of a ranking, checked before anything is done."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from biorerank_plugins._common.checks import whole_number
from biorerank_plugins.reranking.order import ArticleRules, Cut, Retracted, check_fusion

if TYPE_CHECKING:
    from biorerank_plugins.articles.boosts import Boosts
    from biorerank_plugins.articles.duplicates import Deduplicate
    from biorerank_plugins.articles.metadata import MetadataKeys

__all__ = ["RankOptions"]


@dataclass(frozen=True, slots=True)
class RankOptions:
    """What :meth:`BioReranker.rank` was asked for beside the passages; made by :meth:`checked`.

    :param cut: what is returned.
    :param rules: what is made of metadata.
    :param evidence: sentences a passage.
    :param fusion: weight of the first stage's scores.
    :param show_progress: whether a progress bar is drawn.
    """

    cut: Cut
    rules: ArticleRules
    evidence: int
    fusion: float | Literal["stored"] | None
    show_progress: bool

    @classmethod
    def checked(
        cls,
        metadata_keys: MetadataKeys,
        *,
        top_k: int | None = None,
        min_score: float | None = None,
        min_probability: float | None = None,
        evidence: int = 0,
        fusion: float | Literal["stored"] | None = "stored",
        deduplicate: Deduplicate = None,
        retracted: Retracted = "keep",
        boosts: Boosts | None = None,
        show_progress: bool = False,
    ) -> RankOptions:
        """Return the options; the parameters are those of :meth:`BioReranker.rank`.

        :raises ValueError: if one is impossible.
        :raises TypeError: if ``boosts`` are none, or an option is unknown.
        """
        return cls(
            Cut.checked(top_k, min_score, min_probability),
            ArticleRules.checked(metadata_keys, deduplicate, retracted, boosts),
            whole_number("evidence", evidence, least=0),
            check_fusion(fusion),
            show_progress,
        )
