"""``biorerank pairs``: questions with evidence become training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biorerank_plugins.cli.inputs import SkipBad, tell_skipped
from biorerank_plugins.cli.loading import EncoderOnly, Models
from biorerank_plugins.cli.one_line_errors import command, fail, usage_error
from biorerank_plugins.cli.option_groups import check_writable, option, path, path_option
from biorerank_plugins.cli.output import Column, Output

if TYPE_CHECKING:
    from biorerank_plugins.training.material import Material
    from biorerank_plugins.training.negatives import Candidates, PairConfig

Miner = StrEnum("Miner", {"BOTH": "both", "BM25": "bm25", "DENSE": "dense", "NONE": "none"})


def _file(text: str) -> Any:
    return path_option(text, metavar="FILE")


@dataclass(frozen=True, slots=True)
class Drawn:
    """How many negatives of which kind are drawn."""

    negatives_per_positive: Annotated[float, option("Negatives of all kinds for a positive.", min=0.0)] = 1.04
    random_share: Annotated[float, option("Share of the mined negatives drawn at random.", min=0.0, max=1.0)] = 0.05
    abstract_share: Annotated[
        float, option("Share of the negatives from the same abstract, as far as there are any.", min=0.0, max=1.0)
    ] = 0.25
    whole_abstracts: Annotated[
        bool, option("Also whole abstracts as passages, positive and negative.", "--whole-abstracts")
    ] = False
    hard_depth: Annotated[int, option("One half of the mined ones is from up to this rank.", min=1)] = 30
    depth: Annotated[int, option("The other half is from up to this rank.", min=1)] = 100
    max_score_ratio: Annotated[float, option("No negative above this share of the best gold score.", min=0.0)] = 0.95
    max_overlap: Annotated[
        float, option("No negative with more than this share of a gold passage's words.", min=0.0, max=1.0)
    ] = 0.7


@command
def pairs(
    *,
    inputs: Annotated[
        list[Path],
        typer.Argument(
            metavar="INPUT",
            parser=path,
            help="BioASQ, question and answer, {query, pos, neg}, PubMedQA, SQuAD, CSV; BEIR folders.",
        ),
    ],
    out: Annotated[Path, path_option("Rows: .jsonl or .jsonl.gz.", "--out", "-o", metavar="FILE")],
    held_out: Annotated[
        list[Path] | None, _file("Questions that must not be in the rows; may be given repeatedly.")
    ] = None,
    drop_held_out: Annotated[bool, option("Leave such questions out, instead of stopping.", "--drop-held-out")] = False,
    abstracts: Annotated[
        list[Path] | None, _file("Abstracts cut into labelled sentences: negatives of the same abstract.")
    ] = None,
    corpus: Annotated[list[Path] | None, _file("Further passages that negatives are drawn from.")] = None,
    split: Annotated[str, option("Which judgements of a BEIR folder.")] = "train",
    min_grade: Annotated[int, option("Grade from which a passage is evidence.", min=1)] = 1,
    split_sentences: Annotated[
        bool, option("Cut passages into sentences; each of a gold passage is gold.", "--split-sentences")
    ] = False,
    mine: Annotated[Miner, option("What finds negatives that look alike.")] = Miner.BOTH,
    dense_run: Annotated[Path | None, _file("A TREC run with a bi-encoder's scores, instead of embedding.")] = None,
    bm25_run: Annotated[Path | None, _file("A TREC run with BM25's scores.")] = None,
    save_runs: Annotated[
        Path | None, path_option("Folder for what was mined, as dense.trec and bm25.trec.", metavar="FOLDER")
    ] = None,
    drawn: Drawn,
    limit_questions: Annotated[int | None, option("Use the first N questions only.", min=1)] = None,
    seed: Annotated[int, option("Of all that is drawn.", min=0)] = 42,
    skip_bad: SkipBad = False,
    models: EncoderOnly,
    output: Output,
) -> None:
    """Build (question, passage, 0 or 1) rows for training a cross-encoder.

    Positives are the passages that come with the questions. Negatives look alike: passages of other questions that BM25
    and the bi-encoder find, sentences of the same abstract, and random ones; and those that the file gives. What may
    well be an answer is kept out, and so is every passage of a gold article, whichever way its PMID is written.
    The file gets statistics beside it, and a table compares them with those of the BioBERT card.

    Example: biorerank pairs train.jsonl.gz --out pairs.jsonl.gz --held-out dev.jsonl.gz --abstracts indoc.jsonl.gz
    """
    from biorerank_plugins.training.material import split_sentences as into_sentences
    from biorerank_plugins.training.mining import similar_questions
    from biorerank_plugins.training.negatives import PairConfig, read_abstracts
    from biorerank_plugins.training.pairs import build_pairs
    from biorerank_plugins.training.rows import check_rows, describe, write_rows

    if drop_held_out and not held_out:
        usage_error("--drop-held-out needs --held-out FILE.")
    check_writable(out)
    config = PairConfig(seed=seed, **asdict(drawn))
    reading = {"corpus": corpus or [], "split": split, "min_grade": min_grade, "limit_questions": limit_questions}
    material = _read(inputs, held_out or [], output, drop=drop_held_out, skip_bad=skip_bad, **reading)
    given = [abstract for file in abstracts or [] for abstract in read_abstracts(file, material.names)]
    if split_sentences:
        material = into_sentences(material)
    output.note(f"{len(material.questions):,} questions, {len(material.texts):,} passages.")
    lexical, dense = _mined(material, mine, bm25_run, dense_run, models, output)
    if save_runs is not None:
        _save_runs({"dense": dense, "bm25": lexical}, material, save_runs)
    similar = similar_questions(material.questions, dense if any(dense.values()) else lexical)
    passages = material.texts, material.documents
    kinds = replace(config, random_share=1.0) if mine is Miner.NONE else config
    rows = build_pairs(material.questions, *passages, dense, lexical, given, similar, kinds)
    check_rows(rows)
    write_rows(rows, out)
    statistics = describe(rows)
    _write_statistics(out, statistics, config, [*inputs, *(corpus or [])])
    output.document({"file": str(out), **statistics})
    _show(output, statistics)
    output.note(f"{out}: {len(rows):,} rows.")


def _read(inputs: Sequence[Path], held_out: Sequence[Path], output: Output, *, drop: bool, **options: Any) -> Material:
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


def _mined(
    material: Material, mine: Miner, bm25_run: Path | None, dense_run: Path | None, models: Models, output: Output
) -> tuple[Candidates, Candidates]:
    """Return for each question what looks like evidence, by its words and by its meaning."""
    from biorerank_plugins.training.mining import dense_candidates, lexical_candidates

    lexical: Candidates = {question.id: [] for question in material.questions}
    dense = lexical
    if mine in (Miner.BOTH, Miner.BM25):
        lexical = lexical_candidates(material) if bm25_run is None else _read_run(bm25_run, material, output)
    if mine not in (Miner.BOTH, Miner.DENSE):
        output.note("Without the bi-encoder's scores, negatives are not compared with the gold's score.")
    elif dense_run is not None:
        dense = _read_run(dense_run, material, output)
    else:
        model = models.load_encoder()
        output.note(f"Embedding the passages with {model.model_id} …")
        dense = dense_candidates(material, model, show_progress=output.show_progress)
    return lexical, dense


def _read_run(path: Path, material: Material, output: Output) -> Candidates:
    from biorerank_plugins.training.mining import read_candidates

    candidates, n_unknown = read_candidates(path, material)
    if n_unknown:
        output.note(f"{path}: {n_unknown:,} lines name passages that are in no input; they are left out.")
    return candidates


def _save_runs(runs: Mapping[str, Candidates], material: Material, folder: Path) -> None:
    from biorerank_plugins.training.mining import write_candidates

    folder.mkdir(exist_ok=True)
    for name, found in runs.items():
        if any(found.values()):
            write_candidates(found, material, folder / f"{name}.trec", tag=name)


def _write_statistics(out: Path, statistics: Mapping[str, Any], config: PairConfig, inputs: Sequence[Path]) -> None:
    from biorerank_plugins._common.files import write_json

    stem = out.name.removesuffix(".gz").removesuffix(".jsonl")
    document = {**statistics, "settings": asdict(config), "inputs": [path.name for path in inputs]}
    write_json(out.with_name(f"{stem}.statistics.json"), document)


def _show(output: Output, statistics: Mapping[str, Any]) -> None:
    from biorerank_plugins.training.rows import CARD_STATISTICS

    def cell(value: object) -> str:
        if isinstance(value, list):
            return " / ".join(f"{number:,}" for number in value)
        return f"{value:,}" if isinstance(value, (int, float)) else ""

    names = {
        "rows": "rows",
        "question_characters": "characters of a question, min / mean / max",
        "passage_characters": "characters of a passage, min / mean / max",
        "label_mean": "mean label",
    }
    rows = [(text, cell(statistics[name]), cell(CARD_STATISTICS[name])) for name, text in names.items()]
    rows += [(f"rows: {source}", f"{count:,}", "") for source, count in statistics["by_source"].items()]
    output.table([Column(""), Column("these rows", numeric=True), Column("BioBERT card", numeric=True)], rows)
