"""``biorerank calibrate``: probabilities for a model of one's own."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from biorerank_plugins.cli.evaluation_inputs import Sources, read_inputs
from biorerank_plugins.cli.loading import EncoderOnly
from biorerank_plugins.cli.one_line_errors import command, usage_error
from biorerank_plugins.cli.option_groups import Candidates, option, path_option
from biorerank_plugins.cli.output import Column, Output

_FEW = 50  # questions


@command
def calibrate(
    *,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Folder of the reranker, to which it is written.")],
    sources: Sources,
    candidates: Candidates = 100,
    depth: Annotated[int, option("Fit on so many first candidates a question.", min=1)] = 10,
    precision: Annotated[
        float, option("Of 'there is evidence', if half of the questions have it.", min=0.0, max=1.0)
    ] = 0.8,
    plot: Annotated[Path | None, path_option("Image file: reliability before and after.")] = None,
    dry_run: Annotated[bool, option("Measure only; write nothing.", "--dry-run")] = False,
    models: EncoderOnly,
    output: Output,
) -> None:
    """Fit probabilities and the threshold of "no evidence" on judged questions, and store them with the model.

    Use questions that the model was not trained on. The order of passages does not change.

    Example: biorerank calibrate my-model --index my-index --queries questions.jsonl --qrels qrels.tsv
    """
    from biorerank_plugins.models.folders import is_installed

    sources = sources.checked()
    if not dry_run and (is_installed(model) or not Path(model).is_dir()):
        usage_error(f"{model!r} is no folder of your own to write to; give one, or --dry-run.")
    with ExitStack() as stack:
        inputs = read_inputs(sources, stack, models, output)
        reranker = stack.enter_context(replace(models, model=model).load_reranker())
        passages = inputs.index(stack, models, output)
        assert passages is not None  # without runs, only passages are enough
        from biorerank_plugins.evaluation.calibrate import answerability, draw_reliability, judge, reliability_of
        from biorerank_plugins.evaluation.calibrate import calibrate as fit
        from biorerank_plugins.models.calibration import Calibration
        from biorerank_plugins.two_stage import TwoStageSearch

        search = TwoStageSearch(passages, reranker)
        fused_with = None if search.fusion_weight() is None else passages.scores_of(search.first_stage)
        judged = judge(search, inputs.queries, inputs.qrels, candidates=candidates, show_progress=output.show_progress)
        if len(judged) < _FEW:
            output.warn(f"Judged questions: {len(judged)}. Fewer than {_FEW} say little about probabilities.")
        fitted = fit(judged, depth=depth, precision=precision)
        compared = {"sigmoid": Calibration(), "calibrated": fitted}
        curves = {name: reliability_of(judged, one, depth) for name, one in compared.items()}
        answers = answerability(judged, fitted, threshold=fitted.evidence_threshold)
    if plot is not None:
        draw_reliability(curves, plot, title=f"top {depth}")
    if not dry_run:
        from biorerank_plugins.models.stored import store_calibration

        store_calibration(Path(model), fitted, fused_with)
    output.document(
        {
            "questions": len(judged),
            "calibration": fitted.to_dict(),
            "reliability": {name: curve.to_dict() for name, curve in curves.items()},
            "answerability": {
                "auroc": answers.auroc,
                "precision": answers.precision,
                "abstained_with_evidence": answers.abstained_with,
                "abstained_without_evidence": answers.abstained_without,
            },
        }
    )
    names = ["n", "ECE", "Brier", "Brier skill"]
    output.table(
        [Column("probabilities"), *(Column(name, numeric=True) for name in names)],
        [[name, c.n, f"{c.ece:.3f}", f"{c.brier:.3f}", f"{c.brier_skill:.3f}"] for name, c in curves.items()],
    )
    output.note(
        f"{len(judged)} questions. Evidence from a probability of {answers.threshold:.3f} on: right in "
        f"{answers.precision:.0%} of the questions that pass; {answers.abstained_with:.0%} of those with evidence and "
        f"{answers.abstained_without:.0%} of those without do not pass."
    )
    output.note("Measured on the questions it was fitted on." + ("" if dry_run else f" Stored in {Path(model)}."))
