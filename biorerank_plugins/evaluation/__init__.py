"""How good is a ranking: measures over full judgements, significance, and the cost of getting it."""

from biorerank_plugins.evaluation.evaluate import EvaluationReport, evaluate_two_stage
from biorerank_plugins.evaluation.metrics import DEFAULT_MEASURES, MeasuredRun, measure_run, run_from_order
from biorerank_plugins.evaluation.runs import read_run, write_run
from biorerank_plugins.evaluation.significance import Comparison, compare

__all__ = [
    "DEFAULT_MEASURES",
    "Comparison",
    "EvaluationReport",
    "MeasuredRun",
    "compare",
    "evaluate_two_stage",
    "measure_run",
    "read_run",
    "run_from_order",
    "write_run",
]
