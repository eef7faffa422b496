"""The figures of README and of "How it was measured" are those of the results that they name."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
from support import ROOT

README = (ROOT / "README.md").read_text("utf-8")
MEASURED = (ROOT / "docs" / "explanation" / "measured.md").read_text("utf-8")
CARD = (ROOT / "biorerank_plugins" / "models" / "biorerank-minilm-l6" / "README.md").read_text("utf-8")
SETS = {
    "BioASQ, question → snippet": "bioasq-dev",
    "claim → abstract": "claim",
    "phrase → abstract": "phrase",
    "question → long answer (MedQuAD)": "answer",
    "PubMedQA, title → abstract section": "pubmedqa",
    "LiveQA-Med, consumer question → answer": "liveqa",
    "CovidQA, question → title and span": "covidqa",
    "Cystic fibrosis (1974–79), question → abstract": "cystic-fibrosis",
    "TREC-COVID, topic → abstract": "trec-covid",
}


def _result(name: str) -> Any:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))


def _row(text: str, name: str) -> list[str]:
    [row] = re.findall(rf"^\| {re.escape(name)} \|(.*)\|$", text, re.MULTILINE)
    return [cell.strip(" *") for cell in row.split("|")]


@pytest.mark.parametrize(("name", "key"), SETS.items())
def test_quality(name: str, key: str) -> None:
    found = _result("models")["sets"][key]
    runs = found["runs"]
    systems = ("lexical", "dense", "hybrid", "hybrid + reranker alone", "hybrid + reranker")
    wanted = [str(found["queries"]), *(f"{runs[one]['nDCG@10']:.3f}" for one in systems)]
    assert _row(MEASURED, name) == [*wanted, f"{runs['hybrid + reranker']['p']:.4f}"]


@pytest.mark.parametrize(
    ("name", "key"), [("by the logit alone", "alone"), ("**logit and rank** (default)", "with rank")]
)
def test_behind_other_retrievers(name: str, key: str) -> None:
    gains = _result("behind")["report"]["gains"]
    stages = ("lexical", "minilm", "mpnet", "dense", "hybrid")
    assert _row(MEASURED, name) == [f"{gains[stage][key]:+.3f}" for stage in stages]


@pytest.mark.parametrize(
    ("name", "key"),
    [
        ("the retriever", "first stage"),
        ("logit and rank (default)", "logit and rank"),
        ("logit, rank and second reader", "second reader"),
        ("plain texts: the logit alone", "texts, alone"),
        ("plain texts: logit and second reader", "texts, second reader"),
    ],
)
def test_a_second_reader(name: str, key: str) -> None:
    means = _result("second_reader")["report"]["means"]
    assert _row(MEASURED, name) == [f"{means[stage][key]:.3f}" for stage in ("lexical", "minilm")]


@pytest.mark.parametrize(
    ("name", "stage", "measure"),
    [
        ("BM25, nDCG@10", "lexical", "nDCG@10"),
        ("bi-encoder, nDCG@10", "dense", "nDCG@10"),
        ("hybrid, nDCG@10", "hybrid", "nDCG@10"),
        ("hybrid, recall@100", "hybrid", "R@100"),
        ("hybrid and reranker, nDCG@10", "hybrid + reranker", "nDCG@10"),
    ],
)
def test_abbreviations(name: str, stage: str, measure: str) -> None:
    rows = [_result("abbreviations")[kind][stage] for kind in ("as asked", "swapped")]
    wanted = [f"{row['off'][measure]:.3f} / {row['on'][measure]:.3f}" for row in rows]
    assert [cell.replace("*", "") for cell in _row(MEASURED, name)] == wanted


def test_the_time_of_a_second_reader() -> None:
    found = _result("second_reader")["time"]["times"]
    shown = f"takes {found['median']:.1f} times as long ({found['min']:.1f} to {found['max']:.1f} in seven rounds"
    assert shown in " ".join(MEASURED.split())


def test_the_cost_of_precision() -> None:
    text = " ".join(MEASURED.split())
    paths = _result("quality_gate")["paths"]
    half, bytes_ = paths["ours-packed-bfloat16"], paths["ours-packed-int8"]
    assert f"bf16 moves nDCG@10 by {half['delta']:+.4f}, int8 by {bytes_['delta']:+.4f}" in text
    assert f"by {half['fused_delta']:+.4f} and {bytes_['fused_delta']:+.4f}." in text
    assert f"for {half['changed']} in bf16 and for {bytes_['changed']} in int8" in text
    assert f"by {bytes_['mean']:.3f} on average" in text
    now = _result("quality_gate-avx2")["paths"]["ours-packed-int8"]
    assert f"moves nDCG@10 by {now['delta']:+.4f} by the logit" in text
    assert f"by {now['fused_delta']:+.4f} in the default order" in text
    assert f"by {now['mean']:.3f} on average, 99 of 100 of them by {now['of_99']:.2f} or less" in text
    assert f"the ten best of {now['changed']} questions" in text


@pytest.mark.parametrize("top_k", ["5", "10"])
@pytest.mark.parametrize(("name", "stage"), [("our hybrid", "hybrid"), ("our bi-encoder", "dense")])
def test_effort(name: str, stage: str, top_k: str) -> None:
    found = _result("effort")["dev"]["means"][stage][top_k]
    wanted = [f"{found['read']:.0%}", f"{found['same']:.0%}"]
    wanted += [f"{found['difference']:+.3f} ({found['lowest difference']:+.3f})"]
    assert [cell.replace(" %", "%") for cell in _row(MEASURED, f"{name}, {top_k}")] == wanted


def test_the_time_that_effort_spares() -> None:
    found = _result("effort")["time"]["times as fast"]
    default, bytes_ = (
        f"{one['median']:.1f} times {{}}({one['min']:.1f} to {one['max']:.1f}" for one in (found["auto"], found["int8"])
    )
    text = " ".join(MEASURED.split())
    assert default.format("as fast as with full effort ") in text
    assert f"in int8 {bytes_.format('')})" in text
    beside = _result("effort")["time"]["against predict"]
    for name, said in (
        ("auto, auto", "it is {:.1f} times as fast ({:.1f} to {:.1f})"),
        ("auto, full", "full effort {:.1f} times ({:.1f} to {:.1f})"),
    ):
        assert said.format(*(beside[name][one] for one in ("median", "min", "max"))) in text
    shown = _row(README, 'a search for ten passages with `effort="auto"`, against full effort')
    assert shown[1] == f"{found['auto']['median']:.1f}×"


COLLECTIONS = ("bioasq dev", "pubmedqa", "liveqa", "trec-covid")


def _answers(told: Any, case: str) -> str:
    answered, not_sure, nothing = (round(100 * told[case][state]) for state in ("answered", "not_sure", "nothing"))
    return f"{answered}, {not_sure}, {nothing} %"


@pytest.mark.parametrize(
    ("name", "way", "figure"),
    [
        ("error of probabilities", "as a search", lambda told: f"{told['top 10']['ece']:.3f}"),
        ("… as plain texts, by the logit", "as plain texts", lambda told: f"{told['top 10']['ece']:.3f}"),
        ("AUROC of the three answers", "as a search", lambda told: f"{told['auroc of the three answers']:.2f}"),
        ("AUROC as plain texts", "as plain texts", lambda told: f"{told['auroc of the three answers']:.2f}"),
        ("answered, not sure, nothing", "as a search", lambda told: _answers(told, "with evidence")),
        ("… evidence taken away", "as a search", lambda told: _answers(told, "without evidence")),
    ],
)
def test_evidence(name: str, way: str, figure: Callable[[Any], str]) -> None:
    found = _result("evidence")
    assert _row(MEASURED, name) == [figure(found[one][way]) for one in COLLECTIONS]
    wanted = [f"{found[one]['as a search']['questions']} × {found[one]['candidates']}" for one in COLLECTIONS]
    assert _row(MEASURED, "questions × candidates") == wanted


def test_the_card_says_the_same_of_evidence() -> None:
    found = _result("evidence")
    shown, plain = (found["bioasq dev"][way]["top 10"] for way in ("as a search", "as plain texts"))
    errors = [f"{found[one]['as a search']['top 10']['ece']:.3f}" for one in COLLECTIONS]
    aurocs = [f"{found[one]['as a search']['auroc of the three answers']:.2f}" for one in COLLECTIONS]
    planted = found["planted answers"]
    share, cut = (f"{100 * planted[one]:.0f} %" for one in ("first", "first without windows"))
    for said in (
        f"dev: expected calibration error {errors[0]}, Brier skill {shown['brier_skill']:.2f}; as plain texts, by the "
        f"logit, {plain['ece']:.3f} and {plain['brier_skill']:.2f}",
        "PubMedQA {1}, LiveQA {2}, TREC-COVID {3}; calibrate".format(*errors),
        "AUROC {} on dev, {} on PubMedQA, {} on LiveQA, {} on TREC-COVID".format(*aurocs),
        f"in {share} of {planted['questions']} questions ({cut} where the article is cut)",
    ):
        assert said in " ".join(CARD.split())
    assert planted["evidence on the answer"] == 1.0


def test_sentences() -> None:
    rows = _result("sentences")["dev"]["variants"]
    ways = ("alone, in the words of the question", "alone", "bi-encoder")
    shown = "average precision of {:.3f} (each as it stands {:.3f}, bi-encoder {:.3f})"
    assert shown.format(*(rows[way]["AP"] for way in ways)) in " ".join(MEASURED.split())


def test_said_otherwise() -> None:
    found = _result("answers")["said otherwise"]
    text = " ".join(MEASURED.split())
    for kind, shown in (
        ("pronoun", "{1} of {0} short passages of ours ({2} if"),
        ("abbreviation", "for {1} of {0} ({2})"),
    ):
        n = found[kind]["passages"]
        assert shown.format(n, *(round(n * found[kind][way]) for way in ("as shipped", "alone"))) in text


@dataclass(frozen=True)
class Speed:
    """A table of ratios: what it calls the systems, and which parts of a result are its columns."""

    result: str
    arithmetic: str  # of its processor, all that a result names
    mixes: tuple[str, ...]
    systems: Mapping[str, str]


SPEEDS = (
    Speed(
        "speed",
        "avx2 avx512f avx512_vnni avx512_bf16",
        ("minilm-bioasq-100", "minilm-bioasq-1000", "minilm-150-100", "minilm-512-100", "bert-base-bioasq-100"),
        {
            "LlamaIndex, as it calls it": "llama-index",
            "Haystack, as it calls it": "haystack",
            "rerankers": "rerankers",
            "FlashRank, fp32 (AVX512-BF16)": "flashrank",
            "FlashRank, int8 (AVX512-BF16)": "flashrank-int8",
            "sentence-transformers, its best setting (bf16)": "st-best",
            "… on ONNX Runtime, fp32 (AVX512-BF16)": "st-onnx",
            "… on OpenVINO, fp32 (AVX512-BF16)": "st-openvino-float32",
            "… on OpenVINO, bf16 (AVX512-BF16)": "st-openvino-bfloat16",
            '**ours**, `dtype="float32"` (AVX512-BF16)': "ours-packed-float32",
            '**ours**, `dtype="int8"` (AVX512-BF16)': "ours-packed-int8",
            "**ours**, bf16 (the default with AVX512-BF16)": "ours-default",
        },
    ),
    Speed(
        "speed-avx2",
        "avx2",
        ("minilm-bioasq-100", "minilm-150-100"),
        {
            "AVX2 alone: sentence-transformers, its best setting (fp32)": "st-best",
            "… on ONNX Runtime, fp32": "st-onnx",
            "… on OpenVINO, fp32": "st-openvino-float32",
            "FlashRank, int8": "flashrank-int8",
            "**ours**, fp32 (the default there)": "ours-default",
            '**ours**, `dtype="int8"`': "ours-packed-int8",
        },
    ),
    Speed(
        "speed-amx",
        "avx2 avx512f avx512_vnni avx512_bf16 avx_vnni amx_bf16 amx_int8",
        ("minilm-bioasq-100", "minilm-bioasq-1000", "minilm-150-100"),
        {
            "AMX: sentence-transformers, its best setting (bf16)": "st-best",
            "… on ONNX Runtime, fp32 (AMX)": "st-onnx",
            "… on OpenVINO, fp32 (AMX)": "st-openvino-float32",
            "… on OpenVINO, bf16 (AMX)": "st-openvino-bfloat16",
            '**ours**, `dtype="float32"` (AMX)': "ours-packed-float32",
            '**ours**, `dtype="int8"` (AMX)': "ours-packed-int8",
            "**ours**, bf16 (the default with AMX)": "ours-default",
        },
    ),
)


@pytest.mark.parametrize("speed", SPEEDS, ids=lambda one: one.result)
def test_speed(speed: Speed) -> None:
    parts = [_result(speed.result)[mix] for mix in speed.mixes]
    assert {" ".join(part["machine"]["cpu_arithmetic"]) for part in parts} == {speed.arithmetic}
    for name, key in speed.systems.items():
        shown = [_ratio(part["comparisons"][0]["systems"].get(key)) for part in parts]
        assert _row(MEASURED, name) == shown


def _ratio(found: dict[str, Any] | None) -> str:
    return "" if found is None else f"{found['ratio']:.1f} ({found['ratio_lowest']:.1f}–{found['ratio_highest']:.1f})"


def test_speed_in_a_process_of_its_own() -> None:
    found = _result("alone")["times as fast"]
    default, exact, bytes_ = (
        "{median:.1f} times ({min:.1f} to {max:.1f})".format(**found[one]) for one in ("auto", "float32", "int8")
    )
    said = f"the default is {default} as fast as `CrossEncoder.predict`, fp32 {exact}, int8 {bytes_}"
    assert said in " ".join(MEASURED.split())


def test_the_readme_says_the_same() -> None:
    runs = _result("models")["sets"]["bioasq-dev"]["runs"]
    best = f"{runs['hybrid + reranker']['nDCG@10']:.3f}"
    quality = _row(README, "nDCG@10, BioASQ snippets: our hybrid first stage, then reranked")
    assert quality[:2] == [f"{runs['hybrid']['nDCG@10']:.3f}", best]
    others = _row(README, "… the same, against BM25 alone / the bi-encoder alone")
    assert others[:2] == [f"{runs['lexical']['nDCG@10']:.3f} / {runs['dense']['nDCG@10']:.3f}", best]
    runs = _result("models")["sets"]["liveqa"]["runs"]
    consumer = _row(README, "nDCG@10, consumer questions (LiveQA): hybrid, then reranked")
    assert consumer[:2] == [f"{runs[one]['nDCG@10']:.3f}" for one in ("hybrid", "hybrid + reranker")]
    gains = _result("behind")["report"]["gains"]
    behind = _row(README, "gain behind your BM25 / all-MiniLM-L6-v2 (mean of seven sets)")
    assert behind[1] == " / ".join(f"{gains[stage]['with rank']:+.3f}" for stage in ("lexical", "minilm"))
    systems = _result("speed")["minilm-bioasq-100"]["comparisons"][0]["systems"]
    speed = _row(README, "speed: `CrossEncoder.predict` fp32, 100 passages, two CPU cores")
    elsewhere = _result("speed-avx2")["minilm-bioasq-100"]["comparisons"][0]["systems"]["ours-default"]["ratio"]
    assert speed[1] == f"{systems['ours-default']['ratio']:.1f}×** (AVX2 alone: {elsewhere:.1f}×)"
    systems = _result("two_stage")["systems"]
    both = _row(README, "both stages, 55,000 passages, against sentence-transformers and FAISS")
    wanted = [systems[one]["p50_ms"] for one in ("sentence-transformers + FAISS", "ours, dense, packed bfloat16")]
    assert both[:2] == [f"{milliseconds:,.0f} ms" for milliseconds in wanted]


def _spread(found: dict[str, float], digits: int) -> str:
    return " – ".join(f"{found[one]:.{digits}f}" for one in ("min", "median", "max"))


def test_start() -> None:
    machines = [_result("start"), _result("start-amx"), _result("start-avx2")]
    for row, name in (
        ("a cold process ranks 10 passages", "ours: rank 10 passages"),
        ("… `import torch` alone", "import torch"),
        ("… sentence-transformers' `CrossEncoder` predicts them", "sentence-transformers: predict 10 pairs"),
        ("… opens an index, searches and ranks", "ours: open an index, search, rank"),
    ):
        assert _row(MEASURED, row) == [f"{_spread(found['cold process'][name], 2)} s" for found in machines]
    rates = [found["passages a second"] for found in machines]
    defaults = [next(own for name, own in found.items() if "the default here" in name) for found in rates]
    assert _row(MEASURED, "passages embedded a second, as is the default there") == [
        _spread(own, 0) for own in defaults
    ]
    for row, name in (
        ("… ours in fp32", "ours, float32"),
        ("… ours in int8", "ours, int8"),
        ("… sentence-transformers, its defaults", "sentence-transformers, its defaults"),
        ("… sentence-transformers in bf16", "sentence-transformers, bfloat16"),
    ):
        assert _row(MEASURED, row) == [_spread(found[name], 0) if name in found else "" for found in rates]
    assert machines[2]["index"]["dtype"] == "int8"
    indexed = [f"{found['index']['seconds']} s" for found in machines]
    indexed[2] += " (int8)"
    assert _row(MEASURED, "55,258 snippets indexed, BM25 included (one run)") == indexed
    cold = machines[0]["cold process"]
    shown = _row(README, "a cold process to its first ranking, against sentence-transformers")[:2]
    medians = (cold["sentence-transformers: predict 10 pairs"]["median"], cold["ours: rank 10 passages"]["median"])
    assert shown == [f"{seconds:.1f} s" for seconds in medians]


def test_mutations() -> None:
    found = _result("mutations")
    survivors = [one for module in found["modules"].values() for one in module["survived"]]
    explained = sum(one["reason"] is not None for one in survivors)
    assert len(survivors) == found["mutants"] - found["killed"]
    said = f"Of {found['mutants']} changes made on purpose to {len(found['modules'])} core modules"
    assert said in MEASURED
    assert f"the tests notice {found['killed']}; for {explained} of the rest" in MEASURED
    assert found["noticed"] == round(found["killed"] / (found["mutants"] - explained), 3)
    assert f"Of those that change something {found['noticed']:.1%}" in MEASURED.replace("\u00a0", " ")


def test_hostile_inputs() -> None:
    found = _result("faults")
    guided = sum(one["executions"] for one in found["atheris"].values())
    told = f"{found['executions']:,} hostile inputs to {len(found['fuzz'])} targets ({guided:,} of them to the readers"
    assert told in MEASURED
    assert f"{found['crashes']} uncaught errors" in MEASURED
    assert (
        f"{found['kill_points']['points']} writers killed at random\npoints, {found['kill_points']['losses']}"
        in MEASURED
    )
