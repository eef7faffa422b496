"""What ``biorerank pairs`` builds rows from: questions, passages, and candidates for negatives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from biorerank_plugins.cli.inputs import tell_skipped
from biorerank_plugins.cli.loading import Models
from biorerank_plugins.cli.one_line_errors import fail
from biorerank_plugins.cli.output import Output

if TYPE_CHECKING:
    from biorerank_plugins.training.material import Material
    from biorerank_plugins.training.negatives import Candidates


class Miner(StrEnum):
    """What finds passages that look like evidence."""

    BOTH = "both"
    BM25 = "bm25"
    DENSE = "dense"
    NONE = "none"


def read_inputs(
    inputs: Sequence[Path], held_out: Sequence[Path], output: Output, *, drop: bool, **options: Any
) -> Material:
    """Read the questions and passages; questions that are held out stop the command, or are left out."""
    from biorerank_plugins.readers import ReadReport
    from biorerank_plugins.training.material import read_material, read_question_texts
    from biorerank_plugins.training.rows import normalised

    kept_apart = {normalised(text) for path in held_out for text in read_question_texts(path)}
    shared: dict[str, str] = {}

    def skip(text: str) -> bool:
        if normalised(text) in kept_apart:
            shared.setdefault(normalised(text), text)
            return True
        return False

    report = ReadReport()
    material = read_material(inputs, skip=skip, report=report, **options)
    tell_skipped(report, output)
    if shared and not drop:
        few = "; ".join(repr(text) for text in list(shared.values())[:3])
        what = "question is" if len(shared) == 1 else "questions are"
        fail(f"{len(shared)} {what} held out: {few}. Use --drop-held-out to leave such questions out.")
    if shared:
        output.note(f"Left out {len(shared):,} questions that are held out.")
    if not material.questions:
        fail("Every question is held out, so there is nothing to build rows from.")
    return material


@dataclass(frozen=True, slots=True)
class Mining:
    """Where candidates for negatives come from."""

    material: Material
    miner: Miner
    dense_run: Path | None
    bm25_run: Path | None
    models: Models
    output: Output

    def lexical(self) -> Candidates:
        """Return what BM25 finds for each question."""
        from biorerank_plugins.training.mining import lexical_candidates

        if self.miner not in (Miner.BOTH, Miner.BM25):
            return self._nothing()
        return lexical_candidates(self.material) if self.bm25_run is None else self._read(self.bm25_run)

    def dense(self) -> Candidates:
        """Return what the bi-encoder finds for each question."""
        from biorerank_plugins.training.mining import dense_candidates

        if self.miner not in (Miner.BOTH, Miner.DENSE):
            self.output.note("Without the bi-encoder's scores, negatives are not compared with the gold's score.")
            return self._nothing()
        if self.dense_run is not None:
            return self._read(self.dense_run)
        model = self.models.load_encoder()
        self.output.note(f"Embedding the passages with {model.model_id} …")
        return dense_candidates(self.material, model, show_progress=self.output.show_progress)

    def _nothing(self) -> Candidates:
        return {question.id: [] for question in self.material.questions}

    def _read(self, path: Path) -> Candidates:
        from biorerank_plugins.training.mining import read_candidates

        candidates, n_unknown = read_candidates(path, self.material)
        if n_unknown:
            self.output.note(f"{path}: {n_unknown:,} lines name passages that are in no input; they are left out.")
        return candidates
