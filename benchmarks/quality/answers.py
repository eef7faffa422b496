"""Measure answers: do the quoted sentences hold the evidence, and is "no evidence" said where there is none?

    pip install rouge-score
    python -m benchmarks.quality.answers --data "$BIORERANK_DATA" --index bioasq-index \\
        --out benchmarks/results/answers.json

Three ways to the same number of sentences, from the five best passages of 100 candidates: the first stage alone
(hybrid order, sentences by the bi-encoder's cosine), the first stage's passages with sentences by the cross-encoder,
and what ``biorerank ask`` does (reranked, fused, sentences by the cross-encoder). A sentence counts as right if its
passage is judged relevant to the question, or its words stand in a gold snippet. Nobody abstains here.

The three answers ("answered", "not sure", "nothing"), on the demo collection: each question is asked again with its
relevant passages removed, and 30 questions of other domains are asked. Sentences that say otherwise what the question
asks about: 60 short passages (``said_otherwise.jsonl``), of which 40 answer with a pronoun and 20 with an abbreviation.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.common import DEMO, parser_of, read_result, read_rows, write_result
from biorerank_plugins import BioReranker, Evidence, Passage, PassageIndex, TwoStageSearch
from biorerank_plugins.answers.quoted import Answer, compose_answer, quote
from biorerank_plugins.evaluation import compare
from biorerank_plugins.passages import AnswerState
from biorerank_plugins.readers import find_beir, read_passages, read_qrels, read_queries
from biorerank_plugins.text.abbreviations import definitions_in
from biorerank_plugins.text.sentences import split_sentences

RESULT = "answers.json"
KEYS = ("sentences", "passages", "candidates", "model", "said otherwise", "demo", "bioasq dev, yes/no and factoid")

SENTENCES, PASSAGES, CANDIDATES, QUESTIONS = 3, 5, 100, 100
OFF_TOPIC = (
    *("Who won the football world cup in 1998?", "How long should pasta boil?", "How do I bake sourdough bread?"),
    *("Which striker scored most goals in the league?", "What is the offside rule?", "How do I poach an egg?"),
    *("Which wine goes with roast lamb?", "Who painted the Mona Lisa?", "What is the capital of Mongolia?"),
    *("How do I change a bicycle tyre?", "When was the Eiffel Tower built?", "Which planet has the most moons?"),
    *("How do I file a tax return?", "What is the plot of Hamlet?", "Who invented the telephone?"),
    *("How many players has a rugby team?", "How is mozzarella made?", "Which laptop is best for gaming?"),
    *("What are the rules of chess castling?", "Who wrote War and Peace?", "How do I prune roses?"),
    *("Which goalkeeper saved the penalty?", "How hot must oil be for frying chips?", "What is a black hole?"),
    *("How do I knit a scarf?", "When does the next train to Paris leave?", "Which band played at Woodstock?"),
    *("How do I parallel park a car?", "What does a referee's red card mean?", "How do I thicken a gravy?"),
)
BASELINE, MIXED, OURS = "first stage", "first stage, sentences by the reranker", "reranked"
_NOT_ALNUM = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Question:
    """A question, the ids of its relevant passages, its gold snippets and answers written by experts."""

    id: str
    text: str
    relevant: frozenset[str]
    snippets: Sequence[str] = ()
    ideal: Sequence[str] = ()


@dataclass
class Values:
    """Values of each question, by measure."""

    by_measure: dict[str, dict[str, float]] = field(default_factory=dict)

    def put(self, measure: str, question: str, value: float) -> None:
        self.by_measure.setdefault(measure, {})[question] = value


def bioasq_questions(data: Path) -> list[Question]:
    """Return the first 100 yes/no and factoid questions of dev, by id."""
    rows = read_rows(data / "bioasq/dev.jsonl.gz")
    qrels = read_qrels(data / "bioasq/qrels.dev.tsv")
    wanted = sorted((row for row in rows if row["type"] in ("yesno", "factoid")), key=lambda row: row["id"])
    return [
        Question(
            row["id"],
            row["question"],
            _relevant(qrels[row["id"]]),
            [snippet["text"] for snippet in row["snippets"]],
            [row["ideal_answer"]] if isinstance(row["ideal_answer"], str) else row["ideal_answer"] or [],
        )
        for row in wanted[:QUESTIONS]
    ]


def _relevant(grades: Mapping[str, int]) -> frozenset[str]:
    return frozenset(id_ for id_, grade in grades.items() if grade > 0)


def first_stage_answer(question: str, passages: Sequence[Passage], index: PassageIndex) -> Answer:
    """Quote the sentences nearest to the question in the bi-encoder's space."""
    spans = [split_sentences(passage.text) for passage in passages]
    sentences = [passage.text[slice(*span)] for passage, own in zip(passages, spans, strict=True) for span in own]
    query = index.encoder.encode_queries([question])[0]
    vectors = index.encoder.encode_passages([Passage(str(n), text) for n, text in enumerate(sentences)])
    cosines = iter((vectors @ query).tolist())
    found = []
    for passage, own in zip(passages, spans, strict=True):
        found.append((passage, [Evidence(passage.text[a:b], a, b, next(cosines), 1.0) for a, b in own]))
    return quote(question, found, max_sentences=SENTENCES)


def answers(question: str, search: TwoStageSearch) -> dict[str, Answer]:
    """Return the answer of each system."""
    candidates = search.index.search(question, CANDIDATES)
    first = [candidate.passage for candidate in candidates[:PASSAGES]]
    mixed = search.reranker.rank(question, first, evidence=SENTENCES, fusion=None)
    in_order = sorted(mixed, key=lambda ranked: ranked.input_index)
    ranking = search.reranker.rank(question, candidates, top_k=PASSAGES, evidence=SENTENCES)
    return {
        BASELINE: first_stage_answer(question, first, search.index),
        MIXED: quote(question, [(one.passage, one.evidence) for one in in_order], max_sentences=SENTENCES),
        OURS: quote(question, [(one.passage, one.evidence) for one in ranking], max_sentences=SENTENCES),
    }


def is_right(sentence: str, passage: Passage, question: Question) -> bool:
    """Whether a sentence is evidence: of a relevant passage, or in the words of a gold snippet."""
    words = _NOT_ALNUM.sub(" ", sentence.casefold()).strip()
    golds = (_NOT_ALNUM.sub(" ", snippet.casefold()).strip() for snippet in question.snippets)
    return passage.id in question.relevant or any(words in gold or gold in words for gold in golds if gold)


def measure(questions: Sequence[Question], search: TwoStageSearch, rouge: Callable[..., Any]) -> dict[str, Values]:
    """Return what the answers of each system are worth, question by question."""
    systems = {name: Values() for name in (BASELINE, MIXED, OURS)}
    for number, question in enumerate(questions, start=1):
        for name, answer in answers(question.text, search).items():
            right = [
                is_right(one.evidence.text, answer.citations[one.number - 1].passage, question) for one in answer.quotes
            ]
            text = " ".join(one.evidence.text for one in answer.quotes)
            values = systems[name]
            values.put("a right sentence among 3", question.id, float(any(right)))
            values.put("right sentences of those shown", question.id, sum(right) / max(1, len(right)))
            values.put("words of the answer", question.id, float(len(text.split())))
            if question.ideal:
                best = [rouge(ideal, text)["rouge2"] for ideal in question.ideal]
                values.put("ROUGE-2 recall", question.id, max(one.recall for one in best))
                values.put("ROUGE-2 F1", question.id, max(one.fmeasure for one in best))
        if number % 10 == 0:
            print(f"{number} of {len(questions)}", flush=True)
    return systems


def table(systems: Mapping[str, Values]) -> dict[str, Any]:
    """Return means, and each system against the first stage."""
    result: dict[str, Any] = {}
    for measure_, baseline in systems[BASELINE].by_measure.items():
        rows: dict[str, Any] = {"questions": len(baseline), BASELINE: round(sum(baseline.values()) / len(baseline), 4)}
        for name in (MIXED, OURS):
            against = compare(baseline, systems[name].by_measure[measure_])
            rows[name] = {
                "mean": round(against.value, 4),
                "delta": round(against.delta, 4),
                "95 % interval": [round(against.low, 4), round(against.high, 4)],
                "p": round(against.p_value, 4),
                "won/lost": [against.wins, against.losses],
            }
        result[measure_] = rows
    return result


def abstention(questions: Sequence[Question], folder: Path, index: PassageIndex, reranker: BioReranker) -> Any:
    """The three answers, with the relevant passages there, with them removed, and to questions of other domains."""
    told: dict[str, list[AnswerState]] = {
        "relevant passages there": [],
        "relevant passages removed": [],
        "off topic": [],
    }
    for question in questions:
        with PassageIndex.load(folder, encoder=index.encoder) as own:
            told["relevant passages there"].append(_state(question.text, own, reranker))
            own.remove(question.relevant & {passage.id for passage in own.passages()})
            told["relevant passages removed"].append(_state(question.text, own, reranker))
    told["off topic"] = [_state(question, index, reranker) for question in OFF_TOPIC]
    return {
        case: {
            "questions": len(states),
            **{state: round(states.count(state) / len(states), 4) for state in ("answered", "not_sure", "nothing")},
        }
        for case, states in told.items()
    }


def _state(question: str, index: PassageIndex, reranker: BioReranker) -> AnswerState:
    ranking = TwoStageSearch(index, reranker).search(
        question, candidates=CANDIDATES, top_k=PASSAGES, evidence=SENTENCES
    )
    return compose_answer(ranking, max_sentences=SENTENCES).state


def said_otherwise(reranker: BioReranker) -> dict[str, Any]:
    """How often the right sentence is quoted first where it says "it", or an abbreviation; alone, and as shipped."""
    found: dict[str, Any] = {}
    for row in read_rows(Path(__file__).with_name("said_otherwise.jsonl")):
        spans = split_sentences(row["text"])
        sentences = [row["text"][start:end] for start, end in spans]
        alone = reranker.rank(row["question"], sentences, fusion=None)[0].input_index == row["answer"]
        [ranked] = reranker.rank(row["question"], [row["text"]], evidence=1)
        shipped = ranked.evidence[0].start == spans[row["answer"]][0]
        kind = "abbreviation" if any(definitions_in(row["text"])) else "pronoun"
        for name in (kind, "all"):
            found.setdefault(name, []).append((alone, shipped))
    return {name: {"passages": len(own), **_shares(own)} for name, own in found.items()}


def _shares(found: Sequence[tuple[bool, bool]]) -> dict[str, float]:
    return {
        way: round(sum(right) / len(right), 4)
        for way, right in zip(("alone", "as shipped"), zip(*found, strict=True), strict=True)
    }


def demo(reranker: BioReranker, rouge: Callable[..., Any]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as at:
        parts = find_beir(DEMO)
        qrels = read_qrels(parts.qrels)
        asked = [Question(one.id, one.text, _relevant(qrels[one.id])) for one in read_queries(parts.queries)]
        folder = Path(at) / "index"
        with PassageIndex.build(read_passages(parts.corpus)) as index:
            index.save(folder)
            measured = table(measure(asked, TwoStageSearch(index, reranker), rouge))
            return {**measured, "abstention": abstention(asked, folder, index, reranker)}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--index", type=Path, required=True, help="of bioasq/corpus.jsonl.gz, by biorerank index")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only-demo", action="store_true", help="measure what needs no data again, keep the rest")
    args = parser.parse_args()
    from rouge_score.rouge_scorer import RougeScorer

    rouge = RougeScorer(["rouge2"], use_stemmer=True).score
    result: dict[str, Any] = read_result(args.out)
    result |= {"sentences": SENTENCES, "passages": PASSAGES, "candidates": CANDIDATES}
    with BioReranker() as reranker:
        result["model"] = reranker.model_name
        result["said otherwise"] = said_otherwise(reranker)
        result["demo"] = demo(reranker, rouge)
        print(json.dumps(result, indent=1), flush=True)
        if args.only_demo:
            write_result(args.out, result, KEYS)
            return
        with PassageIndex.load(args.index) as index:
            search = TwoStageSearch(index, reranker)
            result["bioasq dev, yes/no and factoid"] = table(measure(bioasq_questions(args.data), search, rouge))
    write_result(args.out, result, KEYS)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
