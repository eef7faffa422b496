"""The embedded models are read without transformers: the same numbers, in a third of the time to the first answer."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

from biorerank_plugins import models
from biorerank_plugins.errors import ModelError
from biorerank_plugins.first_stage import BiEncoder
from biorerank_plugins.runtime.packed.plain_bert import PlainTokenizer, load_bert

RERANKER, ENCODER = (models.path(name) for name in (models.DEFAULT_RERANKER, models.DEFAULT_ENCODER))
TEXTS = [
    "Idarucizumab reverses dabigatran within minutes.",
    "",
    "Ünïcode α-synuclein 🧬, 10⁶ cells/mL; IL-1β\u00a0↑ (p<0.001)",
    "日本語 [SEP] [MASK] pneumonoultramicroscopicsilicovolcanoconiosis\x00\n\ttabs",
    "word " * 700,
]


@pytest.fixture(scope="module")
def theirs() -> transformers.BertForSequenceClassification:
    return transformers.AutoModelForSequenceClassification.from_pretrained(RERANKER, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def tokenizer() -> transformers.PreTrainedTokenizerBase:
    return transformers.AutoTokenizer.from_pretrained(RERANKER)


@torch.inference_mode()
def test_logits_and_states_are_those_of_transformers(theirs, tokenizer):
    batch = tokenizer([TEXTS[0]] * 2, [TEXTS[2], TEXTS[4]], padding=True, truncation=True, return_tensors="pt")
    torch.testing.assert_close(load_bert(RERANKER)(**batch).logits, theirs(**batch).logits, atol=1e-4, rtol=1e-4)
    encoder = transformers.AutoModel.from_pretrained(ENCODER, dtype=torch.float32).eval()
    inside = batch["attention_mask"] == 1
    ours, expected = (model(**batch).last_hidden_state[inside] for model in (load_bert(ENCODER), encoder))
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("folder", [RERANKER, ENCODER], ids=["reranker", "encoder"])
def test_tokens_are_those_of_transformers(folder: Path):
    ours, expected = PlainTokenizer(folder), transformers.AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        assert ours(text)["input_ids"] == expected(text, verbose=False)["input_ids"]
    for pair in (None, TEXTS[::-1]):
        given = ours(TEXTS, pair, truncation="longest_first", max_length=40)
        wanted = expected(TEXTS, pair, truncation="longest_first", max_length=40, return_attention_mask=False)
        assert given == dict(wanted)
    for name in ("model_max_length", "pad_token_id", "padding_side", "truncation_side", "vocab_size"):
        assert getattr(ours, name) == getattr(expected, name), name
    for pair in (False, True):
        assert ours.num_special_tokens_to_add(pair) == expected.num_special_tokens_to_add(pair)


def test_a_first_ranking_and_a_first_search_do_not_import_it():
    """What takes longest in a cold process: transformers, torch's compiler, scipy, sentence-transformers."""
    code = (
        "import sys; from biorerank_plugins import BioReranker, PassageIndex, TwoStageSearch\n"
        "index = PassageIndex.build(['Idarucizumab reverses dabigatran.', 'Heparin is injected.'])\n"
        "ranking = TwoStageSearch(index, BioReranker(device='cpu')).search('Which drug reverses dabigatran?')\n"
        "heavy = {'transformers', 'sentence_transformers', 'torch._dynamo', 'sympy', 'sklearn'}\n"
        "print(ranking[0].passage.text, sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "Idarucizumab reverses dabigatran. []\n", done.stderr


@pytest.fixture
def damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation whose encoder can be damaged."""
    folder = Path(shutil.copytree(ENCODER, tmp_path / ENCODER.name))
    monkeypatch.setattr(models, "_HERE", tmp_path)
    return folder


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("tokenizer.json", "{}"),
        ("tokenizer.json", ""),
        ("tokenizer_config.json", "{}"),
        ("tokenizer_config.json", json.dumps({"tokenizer_class": "OtherTokenizer"})),
        ("model.safetensors", "nothing"),
        ("config.json", json.dumps({"model_type": "mpnet"})),
    ],
)
def test_a_damaged_installation_is_named(damaged: Path, file: str, content: str):
    (damaged / file).write_text(content)
    with pytest.raises(ModelError, match="cannot be loaded"):
        BiEncoder(damaged)


def test_weights_of_another_model_are_refused(damaged: Path):
    shutil.copy(RERANKER / "model.safetensors", damaged / "model.safetensors")
    with pytest.raises(ModelError, match="cannot be loaded"):
        BiEncoder(damaged)
