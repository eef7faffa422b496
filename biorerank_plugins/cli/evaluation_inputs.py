"""What ``biorerank evaluate`` measures: questions, judgements, passages, runs and models, from its options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from biorerank_plugins.cli.inputs import HowToRead, read_collection, read_questions
from biorerank_plugins.cli.loading import Models
from biorerank_plugins.cli.one_line_errors import usage_error
from biorerank_plugins.cli.option_groups import IndexOption, Queries, option, path_option, path_or_stdin
from biorerank_plugins.cli.output import Output

if TYPE_CHECKING:
    from biorerank_plugins.evaluation import BioASQGold
    from biorerank_plugins.evaluation.metrics import Qrels, Run
    from biorerank_plugins.first_stage.protocol import SearchableIndex
    from biorerank_plugins.passages import Passage
    from biorerank_plugins.readers import Query


@dataclass(frozen=True, slots=True)
class Sources:
    """Where everything is read from; :meth:`checked` before use."""

    index: IndexOption = None
    corpus: Annotated[Path | None, option("Passages: a file, indexed in memory; or -.", parser=path_or_stdin)] = None
    queries: Queries = None
    qrels: Annotated[Path | None, path_option("A file of judgements.")] = None
    beir: Annotated[Path | None, path_option("A folder with all three, in BEIR's layout.")] = None
    split: Annotated[str, option("Which judgements of --beir.")] = "test"
    bioasq: Sequence[Path] = ()
    runs: Mapping[str, Path] = field(default_factory=dict)

    def checked(self, bioasq: Sequence[Path] = (), runs: Sequence[str] = ()) -> Sources:
        """Return them with what else there is; what contradicts itself or is not enough is wrong usage."""
        if self.index is not None and self.corpus is not None:
            usage_error("Give the passages by --index or by --corpus, not both.")
        if self.beir is not None and bioasq:
            usage_error("Give --beir or --bioasq, not both.")
        sources = replace(self, bioasq=bioasq, runs=dict(_named(run) for run in runs))
        if self.beir is not None:
            from biorerank_plugins.readers import find_beir

            found = find_beir(self.beir, split=self.split)
            sources = replace(
                sources,
                corpus=self.corpus if self.corpus is not None or self.index is not None else found.corpus,
                queries=self.queries or found.queries,
                qrels=self.qrels or found.qrels,
            )
        if len(sources.runs) < len(runs):
            usage_error("Two runs have the same name; give them as --run NAME=FILE.")
        has_passages = sources.index is not None or sources.corpus is not None
        asked_or_run = sources.queries is not None if has_passages else bool(sources.runs)
        if not bioasq and (sources.qrels is None or not asked_or_run):
            usage_error(
                "Give --beir FOLDER, --bioasq FILE, or --queries and --qrels with --index or --corpus "
                "(or, without passages, --qrels and --run NAME=FILE)."
            )
        return sources


def _named(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    if not equals:
        name, path = Path(text).stem, text
    if not name.strip() or not path.strip():
        usage_error(f"--run {text!r}: expected NAME=FILE.")
    return name.strip(), Path(path)


@dataclass(slots=True)
class Inputs:
    """What was read, before any model is loaded."""

    queries: list[Query]
    qrels: Qrels
    has_qrels_file: bool
    passages: list[Passage] | None = None  # to be indexed in memory
    opened: SearchableIndex | None = None
    gold: BioASQGold | None = None
    runs: Mapping[str, Run] = field(default_factory=dict)

    def index(self, stack: ExitStack, models: Models, output: Output) -> SearchableIndex | None:
        """Return the passages to search, indexed now if they came from a file; warn of judgements that do not fit."""
        from biorerank_plugins.evaluation.metrics import doubts

        index = self.opened
        if self.passages is not None:
            from biorerank_plugins.first_stage import PassageIndex

            model = models.load_encoder()
            output.note(f"Embedding the passages with {model.model_id} …")
            built = PassageIndex.build(self.passages, encoder=model, show_progress=output.show_progress)
            index = stack.enter_context(built)
        if self.has_qrels_file:
            asked = {query.id for query in self.queries} if self.queries else None
            for doubt in doubts(self.qrels, asked=asked, collection=index):
                output.warn(doubt)
        return index


def read_inputs(
    sources: Sources,
    stack: ExitStack,
    models: Models,
    output: Output,
    *,
    limit: int | None = None,
    skip_bad: bool = False,
) -> Inputs:
    """Read all files, and open the index, which the stack closes; what is wrong shows before a model is loaded."""
    from biorerank_plugins.evaluation import read_run
    from biorerank_plugins.readers import read_qrels

    runs = {name: read_run(path) for name, path in sources.runs.items()}
    asked = read_questions(sources.queries, output, skip_bad=skip_bad) if sources.queries is not None else []
    judged = read_qrels(sources.qrels) if sources.qrels is not None else {}
    inputs = Inputs(asked, judged, sources.qrels is not None, runs=runs)
    if sources.index is not None:
        inputs.opened = models.open_index(sources.index)
        stack.enter_context(inputs.opened)
    elif sources.corpus is not None:
        inputs.passages = list(read_collection([sources.corpus], HowToRead(skip_bad=skip_bad), output))
    if sources.bioasq:
        _add_bioasq(inputs, sources, output)
    if limit is not None:
        _limit(inputs, limit)
    return inputs


def _add_bioasq(inputs: Inputs, sources: Sources, output: Output) -> None:
    from biorerank_plugins.evaluation import qrels_by_document, qrels_by_text, read_bioasq

    queries, inputs.gold, snippets = read_bioasq(*sources.bioasq)
    if sources.queries is None:
        inputs.queries = queries
    if inputs.opened is None and inputs.passages is None:
        inputs.passages = snippets
        output.note(
            f"The collection is the {len(snippets)} gold snippets of "
            f"{', '.join(path.name for path in sources.bioasq)}, which is far easier than searching PubMed; give "
            "--index or --corpus for another one."
        )
    if sources.qrels is not None:
        return

    def collection() -> Iterable[Passage]:
        return inputs.opened.passages() if inputs.opened is not None else inputs.passages or []

    inputs.qrels, missing = qrels_by_text(inputs.gold, collection())
    is_missing = [id_.startswith("missing:") for grades in inputs.qrels.values() for id_ in grades]
    if 2 * sum(is_missing) > len(is_missing):  # a collection of abstracts or full texts, not of snippets
        by_document, lacking = qrels_by_document(inputs.gold, collection())
        if by_document:
            inputs.qrels = by_document
            output.note("Relevant is a passage of a gold article, by its PMID: few passages have a snippet's text.")
            if lacking:
                output.warn(f"{lacking} gold articles are not in the collection; they count as not found.")
            return
    if missing:
        output.warn(f"{missing} gold snippets are not in the collection; they count as not found.")


def _limit(inputs: Inputs, limit: int) -> None:
    """Keep the first judged questions in the file's order; of runs alone, the first judgements."""
    names = [query.id for query in inputs.queries if query.id in inputs.qrels] if inputs.queries else list(inputs.qrels)
    kept = set(names[:limit])
    if kept:
        inputs.queries = [query for query in inputs.queries if query.id in kept]
        inputs.qrels = {name: grades for name, grades in inputs.qrels.items() if name in kept}


def name_models(given: Sequence[str]) -> dict[str, str | None]:
    """Return the models, or the default one, by the names that a report calls them by.

    ``NAME=MODEL`` says the name; else it is that of the model, for a folder its last part unless two folders share it.
    """
    from biorerank_plugins.models import DEFAULT_RERANKER

    if not given:
        return {DEFAULT_RERANKER: None}
    pairs = [_model(text) for text in given]
    shown = [name or (Path(model).name if Path(model).is_dir() else model) for name, model in pairs]
    named: dict[str, str | None] = {}
    for (name, model), short in zip(pairs, shown, strict=True):
        called = name or (short if shown.count(short) == 1 else model)
        if called in named:
            usage_error(f"Two models have the name {called!r}; give them as --model NAME=MODEL.")
        named[called] = model
    return named


def _model(text: str) -> tuple[str | None, str]:
    name, equals, model = text.partition("=")
    return (name.strip(), model) if equals and name.strip() and not Path(text).exists() else (None, text)
