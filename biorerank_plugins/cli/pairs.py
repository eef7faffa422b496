"""``biorerank pairs``: questions with evidence become training rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from biorerank_plugins.cli.inputs import SkipBad
from biorerank_plugins.cli.loading import EncoderOnly
from biorerank_plugins.cli.one_line_errors import command, usage_error
from biorerank_plugins.cli.option_groups import check_writable, path, path_option
from biorerank_plugins.cli.output import Column, Output
from biorerank_plugins.cli.pairs_inputs import Miner, Mining, read_inputs

if TYPE_CHECKING:
    from biorerank_plugins.training.material import Material
    from biorerank_plugins.training.negatives import Abstract, PairConfig
    from biorerank_plugins.training.rows import TrainingPair


def _files(name: str, text: str, metavar: str = "FILE") -> Any:
    return path_option(name, metavar=metavar, help=text)


def _share(name: str, text: str) -> Any:
    return typer.Option(name, min=0.0, max=1.0, help=text)


@dataclass(frozen=True, slots=True)
class Drawn:
    """How many negatives of which kind are drawn."""

    negatives_per_positive: Annotated[
        float, typer.Option("--negatives-per-positive", min=0.0, help="Negatives of all kinds for a positive.")
    ] = 1.04
    random_share: Annotated[float, _share("--random-share", "Share of the mined negatives drawn at random.")] = 0.05
    abstract_share: Annotated[
        float, _share("--abstract-share", "Share of the negatives from the same abstract, as far as there are any.")
    ] = 0.25
    whole_abstracts: Annotated[
        bool, typer.Option("--whole-abstracts", help="Also whole abstracts as passages, positive and negative.")
    ] = False
    hard_depth: Annotated[
        int, typer.Option("--hard-depth", min=1, help="One half of the mined ones is from up to this rank.")
    ] = 30
    depth: Annotated[int, typer.Option("--depth", min=1, help="The other half is from up to this rank.")] = 100
    max_score_ratio: Annotated[
        float, typer.Option("--max-score-ratio", min=0.0, help="No negative above this share of the best gold score.")
    ] = 0.95
    max_overlap: Annotated[
        float, _share("--max-overlap", "No negative with more than this share of a gold passage's words.")
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
    out: Annotated[Path, path_option("--out", "-o", metavar="FILE", help="Rows: .jsonl or .jsonl.gz.")],
    held_out: Annotated[
        list[Path] | None, _files("--held-out", "Questions that must not be in the rows; may be given repeatedly.")
    ] = None,
    drop_held_out: Annotated[
        bool, typer.Option("--drop-held-out", help="Leave such questions out, instead of stopping.")
    ] = False,
    abstracts: Annotated[
        list[Path] | None,
        _files("--abstracts", "Abstracts cut into labelled sentences: negatives of the same abstract."),
    ] = None,
    corpus: Annotated[list[Path] | None, _files("--corpus", "Further passages that negatives are drawn from.")] = None,
    split: Annotated[str, typer.Option("--split", help="Which judgements of a BEIR folder.")] = "train",
    min_grade: Annotated[int, typer.Option("--min-grade", min=1, help="Grade from which a passage is evidence.")] = 1,
    split_sentences: Annotated[
        bool, typer.Option("--split-sentences", help="Cut passages into sentences; each of a gold passage is gold.")
    ] = False,
    mine: Annotated[Miner, typer.Option("--mine", help="What finds negatives that look alike.")] = Miner.BOTH,
    dense_run: Annotated[
        Path | None, _files("--dense-run", "A TREC run with a bi-encoder's scores, instead of embedding.")
    ] = None,
    bm25_run: Annotated[Path | None, _files("--bm25-run", "A TREC run with BM25's scores.")] = None,
    save_runs: Annotated[
        Path | None, _files("--save-runs", "Folder for what was mined, as dense.trec and bm25.trec.", "FOLDER")
    ] = None,
    drawn: Drawn,
    limit_questions: Annotated[
        int | None, typer.Option("--limit-questions", min=1, help="Use the first N questions only.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Of all that is drawn.")] = 42,
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
    from biorerank_plugins.training.negatives import PairConfig, read_abstracts
    from biorerank_plugins.training.rows import check_rows, describe, write_rows

    if drop_held_out and not held_out:
        usage_error("--drop-held-out needs --held-out FILE.")
    check_writable(out)
    config = PairConfig(seed=seed, **asdict(drawn))
    material = read_inputs(
        inputs,
        held_out or [],
        output,
        drop=drop_held_out,
        corpus=corpus or [],
        split=split,
        min_grade=min_grade,
        limit_questions=limit_questions,
        skip_bad=skip_bad,
    )
    given = [abstract for file in abstracts or [] for abstract in read_abstracts(file, material.names)]
    if split_sentences:
        from biorerank_plugins.training import material as materials

        material = materials.split_sentences(material)
    output.note(f"{len(material.questions):,} questions, {len(material.texts):,} passages.")
    mining = Mining(material, mine, dense_run, bm25_run, models, output)
    rows = _build(material, mining, given, config, save_runs)
    check_rows(rows)
    write_rows(rows, out)
    statistics = describe(rows)
    _write_statistics(out, statistics, config, [*inputs, *(corpus or [])])
    if output.json:
        output.document({"file": str(out), **statistics})
    _show(output, statistics)
    output.note(f"{out}: {len(rows):,} rows.")


def _build(
    material: Material, mining: Mining, abstracts: Sequence[Abstract], config: PairConfig, save_runs: Path | None
) -> list[TrainingPair]:
    from biorerank_plugins.training.mining import similar_questions, write_candidates
    from biorerank_plugins.training.pairs import build_pairs

    lexical, dense = mining.lexical(), mining.dense()
    if mining.miner is Miner.NONE:
        config = replace(config, random_share=1.0)
    if save_runs is not None:
        save_runs.mkdir(exist_ok=True)
        for name, found in (("dense", dense), ("bm25", lexical)):
            if any(found.values()):
                write_candidates(found, material, save_runs / f"{name}.trec", tag=name)
    similar = similar_questions(material.questions, dense if any(dense.values()) else lexical)
    return build_pairs(
        material.questions, material.texts, material.documents, dense, lexical, abstracts, similar, config
    )


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
