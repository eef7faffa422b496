"""Running a cross-encoder: :mod:`.scores` has the plug point, :mod:`.loading` goes from a model's name to a scorer."""

from biorerank_plugins.scoring.scores import PairScorer, PairScores, Scorer

__all__ = ["PairScorer", "PairScores", "Scorer"]
