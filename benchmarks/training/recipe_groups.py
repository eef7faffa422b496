"""Build the groups of the cross-encoder's last training stage from what the hybrid first stage really hands it.

    python -m benchmarks.training.recipe_groups --data "$BIORERANK_DATA" --out build/data/groups-hybrid.jsonl

Each group has up to three positives, negatives from near the top down to the end of the candidates, and the first
stage's score of each as its prior. Texts that no training question is judged on, and all that ``recipe_data.py`` holds
back for the dev tasks, are left out.
"""

from __future__ import annotations

import json
import logging
import random
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import parser_of, read_rows, write_rows
from benchmarks.training.query_forms import phrase_from_question
from benchmarks.training.recipe_data import Builder, normal
from biorerank_plugins import Passage, PassageIndex
from biorerank_plugins.first_stage import BiEncoder
from biorerank_plugins.training.pairs import NegativeGuard, PairConfig

SEED = 11
DEPTH = 200  # snippets a query
LONG_DEPTH = 100  # abstracts or answers a query
POSITIVES = 3
ANSWERS = 5000  # long answers in the collection that negatives come from
# Groups of each kind that are kept: about 15 million tokens, 70 minutes on two free cores.
QUOTAS = {
    "question-snippet": 9000,
    "claim-snippet": 1200,
    "phrase-snippet": 1000,
    "question-sentence": 2600,
    "question-abstract": 700,
    "claim-abstract": 700,
    "phrase-abstract": 700,
    "cloze-abstract": 800,
    "question-answer": 450,
    "consumer-answer": 450,
}
SNIPPET_RANKS = ((0, 15, 3), (15, 50, 2), (50, DEPTH, 2))  # from, to, how many negatives
LONG_RANKS = ((0, 10, 2), (10, 40, 1), (40, LONG_DEPTH, 1))
SCALES = (2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 30)
# What a person without the textbook's words asks; {} is the disease.
CONSUMER = {
    "information": ("what exactly is {}", "my son was diagnosed with {} please tell me more", "{}", "tell me about {}"),
    "symptoms": ("how do I know if I have {}", "signs of {}", "what does {} feel like", "{} symptoms"),
    "treatment": (
        "is there a cure for {}",
        "what can I do about {}",
        "how do doctors deal with {}",
        "{} medication options",
        "My mother has {}. What helps?",
    ),
    "inheritance": ("will my children get {}", "does {} run in families", "can I pass {} on to my baby"),
    "frequency": ("how common is {}", "how many people have {}", "is {} rare"),
    "genetic changes": ("which gene causes {}", "{} gene mutation", "is there a faulty gene behind {}"),
    "causes": ("why did I get {}", "what brings on {}", "reasons for {}"),
    "exams and tests": ("how do they test for {}", "{} diagnosis", "what tests will I need to find out if it is {}"),
    "outlook": ("how long can you live with {}", "{} prognosis", "will {} get worse"),
    "susceptibility": ("who gets {}", "am I at risk of {}", "{} risk factors"),
    "prevention": ("how can I avoid {}", "{} prevention", "can I stop {} from happening"),
    "considerations": ("what should I know about living with {}", "diet for {}"),
    "research": ("new studies on {}", "is anybody working on {}"),
    "stages": ("{} staging", "how far along is my {}"),
    "complications": ("what can go wrong with {}", "{} complications"),
}
Found = list[tuple[int, float]]


class GroupBuilder:
    def __init__(self, data: Path, encoder: BiEncoder) -> None:
        self.data, self.encoder = data, encoder
        self.material = Builder(data, None, None)
        self.draw = random.Random(SEED)
        self.groups: list[dict[str, Any]] = []

    def index(self, texts: Sequence[str]) -> PassageIndex:
        passages = [Passage(str(n), text) for n, text in enumerate(texts)]
        return PassageIndex.build(passages, encoder=self.encoder, show_progress=True)

    def snippet_index(self, folder: Path | None) -> PassageIndex:
        if folder is not None and folder.exists():
            return PassageIndex.load(folder, encoder=self.encoder)
        index = self.index(self.material.texts)
        if folder is not None:
            index.save(folder)
        return index

    def search(self, index: PassageIndex, queries: Sequence[str], k: int) -> list[Found]:
        found = index.search_many(list(queries), k, first_stage="hybrid")
        return [[(int(c.passage.id), float(c.score or 0.0)) for c in candidates] for candidates in found]

    def negatives(self, ranked: Found, strata: Iterable[tuple[int, int, int]]) -> Found:
        chosen: Found = []
        for start, end, count in strata:
            part = ranked[start:end]
            chosen += self.draw.sample(part, min(count, len(part)))
        return chosen

    def add(self, source: str, query: str, texts: Sequence[str], positives: Found, negatives: Found) -> None:
        if positives and negatives:
            self.groups.append(
                {
                    "source": source,
                    "query": query,
                    "positive": [texts[p] for p, _ in positives],
                    "negatives": [texts[p] for p, _ in negatives],
                    "prior": [score for _, score in (*positives, *negatives)],
                }
            )

    def snippet_groups(self, index: PassageIndex) -> None:
        """Question, claim and phrase -> snippets, against what the hybrid finds beside them."""
        material = self.material
        guard = NegativeGuard(material.texts, material.documents, PairConfig())
        judged = {p for question in material.open for p in question.gold}
        forms = []
        for question in material.open:
            made = {"question": question.text, "claim": material.claim(question.id)}
            made["phrase"] = phrase_from_question(question.text)
            forms += [(form, text, question) for form, text in made.items() if text and question.gold]
        lists = self.search(index, [text for _, text, _ in forms], DEPTH)
        for (form, text, question), found in zip(forms, lists, strict=True):
            scores = dict(found)
            gold = [(p, s) for p, s in found if p in question.gold]
            ranked = [(p, s) for p, s in found if p in judged and guard.admits(question, p, scores)]
            self.draw.shuffle(gold)
            for start in range(0, min(len(gold), 15 if form == "question" else POSITIVES), POSITIVES):
                positives = gold[start : start + POSITIVES]
                self.add(f"{form}-snippet", text, material.texts, positives, self.negatives(ranked, SNIPPET_RANKS))

    def sentence_groups(self) -> None:
        """Question -> the sentences of an abstract that are evidence, against its other sentences."""
        for question in self.material.open:
            for abstract in self.material.sentences.get(question.id, ()):
                positives = [s["text"] for s in abstract if s["label"]]
                negatives = [s["text"] for s in abstract if not s["label"]]
                if positives and negatives:
                    self.groups.append(
                        {
                            "source": "question-sentence",
                            "query": question.text,
                            "positive": self.draw.sample(positives, min(5, len(positives))),
                            "negatives": self.draw.sample(negatives, min(9, len(negatives))),
                        }
                    )

    def abstract_groups(self) -> None:
        """Question, claim, phrase, and a sentence of the abstract itself -> whole abstract."""
        material = self.material
        texts = [material.abstracts[a] for a in material.trainable]
        place = {a: n for n, a in enumerate(material.trainable)}
        forms: list[tuple[str, str, set[int]]] = []
        for question in material.open:
            own = {place[a] for a in material.evidence.get(question.id, ()) if a in place}
            made = {"question": question.text, "claim": material.claim(question.id)}
            made["phrase"] = phrase_from_question(question.text)
            forms += [(form, text, own) for form, text in made.items() if text and own]
        rest = {}
        # Inverse cloze (Lee et al. 2019): a sentence is a claim that the rest of its abstract speaks of.
        for n in self.draw.sample(range(len(texts)), min(QUOTAS["cloze-abstract"] + 200, len(texts))):
            parts = re.split(r"(?<=[.!?])\s+(?=[A-Z])", texts[n])
            if len(parts) >= 5:
                at = self.draw.randrange(1, len(parts))
                rest[parts[at]] = (n, " ".join(parts[:at] + parts[at + 1 :]))
                forms.append(("cloze", parts[at], {n}))
        index = self.index(texts)
        for (form, text, own), found in zip(forms, self.search(index, [f[1] for f in forms], LONG_DEPTH), strict=True):
            positives = [(p, s) for p, s in found if p in own]
            ranked = [(p, s) for p, s in found if p not in own]
            chosen = self.draw.sample(positives, min(2, len(positives)))
            self.add(f"{form}-abstract", text, texts, chosen, self.negatives(ranked, LONG_RANKS))
            if form == "cloze" and chosen:  # the sentence itself must not give it away
                self.groups[-1]["positive"] = [rest[text][1]]

    def answer_groups(self) -> None:
        """MedQuAD: question, and what a consumer would ask -> long answer."""
        _, train = self.material.medquad()
        train = self.draw.sample(train, min(ANSWERS, len(train)))
        answers = [without_question(row) for row in train]
        texts = list(dict.fromkeys(answers))
        number = {text: n for n, text in enumerate(texts)}
        own: dict[tuple[str, str], set[int]] = defaultdict(set)
        for row, answer in zip(train, answers, strict=True):
            own[normal(row["focus"] or ""), row["qtype"]].add(number[answer])
        wanted = QUOTAS["question-answer"]
        forms = [("question", row["question"], row) for row in train[: wanted + 50]]
        forms += [("consumer", self.consumer(row), row) for row in train[wanted + 50 : 2 * wanted + 300]]
        forms = [(form, text, row) for form, text, row in forms if text]
        lists = self.search(self.index(texts), [text for _, text, _ in forms], LONG_DEPTH)
        for (form, text, row), found in zip(forms, lists, strict=True):
            right = own[normal(row["focus"] or ""), row["qtype"]]
            positives = [(p, s) for p, s in found if p in right]
            ranked = [(p, s) for p, s in found if p not in right]
            self.add(f"{form}-answer", text, texts, positives[:1], self.negatives(ranked, LONG_RANKS))

    def consumer(self, row: dict[str, Any]) -> str:
        forms = CONSUMER.get(row["qtype"], ())
        focus = row["focus"] or ""
        return self.draw.choice(forms).format(focus) if forms and focus else ""

    def keep_quotas(self, quotas: Mapping[str, int] = QUOTAS) -> None:
        kept = []
        for source, quota in quotas.items():
            groups = [group for group in self.groups if group["source"] == source]
            kept += self.draw.sample(groups, min(quota, len(groups)))
        self.groups = kept


def without_question(row: dict[str, Any]) -> str:
    """Some answers begin with their question: a shortcut that no user's passages have, among positives or negatives."""
    head, answer = row["question"].rstrip(" ?").lower()[:40], str(row["answer"])
    if answer.lower().startswith(head) and "?" in answer[:300]:
        return answer.split("?", 1)[1].strip() or answer
    return answer


def fit_scale(groups: Sequence[dict[str, Any]]) -> dict[float, float]:
    """Mean contrast of ``scale · score`` alone: the scale that makes the first stage's score a log-odds."""
    known = [
        (np.asarray(group["prior"]), len(group["positive"]))
        for group in groups
        if group.get("prior") and group["source"].endswith("-snippet")
    ]

    def contrast(scores: Any, n: int) -> float:
        against = np.logaddexp.reduce(scores[n:])
        return float(np.mean(np.logaddexp(scores[:n], against) - scores[:n]))

    return {scale: round(float(np.mean([contrast(scale * s, n) for s, n in known])), 4) for scale in SCALES}


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with bioasq/, medquad/, liveqa_medquad/")
    parser.add_argument("--encoder", help="bi-encoder of the first stage; default: the embedded one")
    parser.add_argument("--index", type=Path, help="folder of the BioASQ index; built if not there")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    builder = GroupBuilder(args.data, BiEncoder(args.encoder))
    builder.snippet_groups(builder.snippet_index(args.index))
    builder.sentence_groups()
    builder.abstract_groups()
    builder.answer_groups()
    builder.keep_quotas()
    held_out = {normal(r["question"]) for s in ("calib", "dev") for r in read_rows(args.data / f"bioasq/{s}.jsonl.gz")}
    leaked = [group["query"] for group in builder.groups if normal(group["query"]) in held_out]
    if leaked:
        raise SystemExit(f"{len(leaked)} training queries are in calib or dev, for example {leaked[0]!r}.")
    contrasts = fit_scale(builder.groups)
    scale = min(contrasts, key=lambda s: contrasts[s])
    for group in builder.groups:
        if "prior" in group:
            group["prior"] = [round(scale * score, 4) for score in group["prior"]]
    args.out.parent.mkdir(parents=True, exist_ok=True)
    write_rows(args.out, builder.groups)
    statistics = {
        "groups": dict(Counter(group["source"] for group in builder.groups)),
        "pairs": sum(len(group["positive"]) + len(group["negatives"]) for group in builder.groups),
        "positives": sum(len(group["positive"]) for group in builder.groups),
        "scale": scale,
        "contrast by scale": contrasts,
    }
    args.out.with_suffix(".statistics.json").write_text(json.dumps(statistics, indent=1), encoding="utf-8")
    logging.info("%s", json.dumps(statistics, indent=1))


if __name__ == "__main__":
    main()
