"""How good is a ranking: measures over full judgements, significance, and the cost of getting it.

Reports with plots are in :mod:`biorerank_plugins.evaluation.report.pages`; they need the extra ``eval``.
"""

from biorerank_plugins.evaluation.bioasq.gold import BioASQGold, qrels_by_document, qrels_by_text, read_bioasq
from biorerank_plugins.evaluation.metrics import DEFAULT_MEASURES, MeasuredRun, measure_run, run_from_order
from biorerank_plugins.evaluation.results import SystemResult, SystemsReport
from biorerank_plugins.evaluation.runs import read_run, write_run
from biorerank_plugins.evaluation.significance import Comparison, compare, corrected
from biorerank_plugins.evaluation.systems import evaluate_systems

__all__ = [
    "DEFAULT_MEASURES",
    "BioASQGold",
    "Comparison",
    "MeasuredRun",
    "SystemResult",
    "SystemsReport",
    "compare",
    "corrected",
    "evaluate_systems",
    "measure_run",
    "qrels_by_document",
    "qrels_by_text",
    "read_bioasq",
    "read_run",
    "run_from_order",
    "write_run",
]
