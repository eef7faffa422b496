"""Every family of cross-encoder gives what ``CrossEncoder.predict`` gives; what is no reranker is refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from biorerank_plugins import BioReranker
from biorerank_plugins.errors import ModelError
from biorerank_plugins.scoring.cross_encoder import CrossEncoderScorer, TokenScorer

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder

QUERY = "Is p53 a tumour suppressor?"
TEXTS = [
    "p53 suppresses tumours.",
    "",
    " Aspirin\n binds platelets ",
    "x😀y",
    "cells " * 30,
    "insulin lowers glucose " * 90,
]
PAIRS = [(QUERY, text) for text in TEXTS] + [("a", "b"), ("what is brca1", TEXTS[0])]


def _reranker(model: object, **options: object) -> BioReranker:
    return BioReranker(model, device="cpu", **{"dtype": "float32", **options})


def _cross_encoder(*arguments: Any, **options: Any) -> CrossEncoder:
    from sentence_transformers import CrossEncoder

    return CrossEncoder(*arguments, **options)


def _assert_same(model: Path | CrossEncoder, path: type, **options: object) -> None:
    plain = _cross_encoder(str(model), device="cpu") if isinstance(model, Path) else model
    expected = plain.predict([list(pair) for pair in PAIRS])
    reranker = _reranker(model, **options)
    assert isinstance((reranker.warm_up(), reranker._scorer)[1], path)
    assert reranker.predict(PAIRS) == pytest.approx(expected, abs=1e-5)
    assert np.ptp(expected) > 1e-3  # else this would say nothing


def _small(cls: type, **options: object) -> object:
    return cls(
        **{
            "hidden_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "initializer_range": 0.5,
            "num_labels": 1,
            **options,
        }
    )


@pytest.fixture(scope="module")
def roberta_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Byte-level BPE and ``<s> A </s></s> B </s>``; no segment ids, positions counted from behind the padding's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForSequenceClassification

    folder = tmp_path_factory.mktemp("roberta")
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([*TEXTS, QUERY], trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        cls_token="<s>",
        eos_token="</s>",
        sep_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        mask_token="<mask>",
        model_input_names=["input_ids", "attention_mask"],
        model_max_length=64,
    ).save_pretrained(folder)
    torch.manual_seed(0)
    config = _small(RobertaConfig, vocab_size=len(tokenizer.get_vocab()), max_position_embeddings=66, type_vocab_size=1)
    RobertaForSequenceClassification(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def distilbert_dir(tmp_path_factory: pytest.TempPathFactory, make_tokenizer: Callable[..., None]) -> Path:
    """A model without segment ids beside BERT's tokenizer, which gives some: a usual pair on the hub."""
    from transformers import AutoTokenizer, DistilBertConfig, DistilBertForSequenceClassification

    folder = tmp_path_factory.mktemp("distilbert")
    make_tokenizer(folder)
    torch.manual_seed(0)
    size = len(AutoTokenizer.from_pretrained(folder))
    config = DistilBertConfig(
        vocab_size=size,
        dim=32,
        n_layers=2,
        n_heads=4,
        hidden_dim=64,
        max_position_embeddings=128,
        initializer_range=0.5,
        num_labels=1,
    )
    DistilBertForSequenceClassification(config).save_pretrained(folder)
    return folder


def test_bert(tiny_cross_encoder_dir: Path):
    _assert_same(tiny_cross_encoder_dir, TokenScorer)


def test_an_object(tiny_cross_encoder_dir: Path):
    _assert_same(_cross_encoder(str(tiny_cross_encoder_dir), device="cpu"), TokenScorer, dtype="auto")


def test_roberta(roberta_dir: Path):
    _assert_same(roberta_dir, TokenScorer)


def test_roberta_whose_tokenizer_states_no_length(roberta_dir: Path, tmp_path: Path):
    """``CrossEncoder`` alone would run past the last position of this model."""
    folder = Path(shutil.copytree(roberta_dir, tmp_path / "model"))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer["model_max_length"] = int(1e30)
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    assert _reranker(folder).predict(PAIRS) == pytest.approx(_reranker(roberta_dir).predict(PAIRS), abs=1e-5)


def test_distilbert_with_a_tokenizer_that_gives_segment_ids(distilbert_dir: Path):
    from transformers import AutoTokenizer

    assert "token_type_ids" in AutoTokenizer.from_pretrained(distilbert_dir)("a", "b")
    _assert_same(distilbert_dir, TokenScorer)


def test_a_model_with_its_own_activation(tiny_cross_encoder_dir: Path, tmp_path: Path):
    folder = tmp_path / "model"
    identity = torch.nn.Identity()
    _cross_encoder(str(tiny_cross_encoder_dir), device="cpu", activation_fn=identity).save_pretrained(str(folder))
    _assert_same(folder, TokenScorer)
    [line] = _reranker(folder).rank("a", ["b"])
    assert line.score == line.logit
    assert line.probability == pytest.approx(1 / (1 + np.exp(-line.logit)))


def test_an_activation_that_works_in_place_or_over_the_last_dimension(tiny_cross_encoder_dir: Path):
    for activation in (torch.nn.ReLU(inplace=True), torch.nn.Softmax(dim=-1)):
        model = _cross_encoder(str(tiny_cross_encoder_dir), device="cpu", activation_fn=activation)
        ranking = _reranker(model).rank(QUERY, TEXTS)
        plain = _reranker(tiny_cross_encoder_dir).rank(QUERY, TEXTS)
        assert [line.logit for line in ranking] == pytest.approx([line.logit for line in plain], abs=1e-5)
        cut = _reranker(model, windows=False).rank(QUERY, TEXTS)  # as CrossEncoder does
        by_input = {line.input_index: line.score for line in cut}
        expected = model.predict([[QUERY, text] for text in TEXTS])
        assert [by_input[i] for i in range(len(TEXTS))] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("length", [16, 40])
def test_a_smaller_max_length(tiny_cross_encoder_dir: Path, length):
    plain = _cross_encoder(str(tiny_cross_encoder_dir), device="cpu", max_length=length)
    pairs = [("is p53 good", "insulin lowers glucose " * n) for n in (1, 4, 20, 200)]
    reranker = _reranker(tiny_cross_encoder_dir, max_length=length)
    assert reranker.predict(pairs) == pytest.approx(plain.predict([list(pair) for pair in pairs]), abs=1e-5)


def test_prompts_run_through_predict_itself(tiny_cross_encoder_dir: Path):
    model = _cross_encoder(
        str(tiny_cross_encoder_dir), device="cpu", prompts={"med": "heart failure "}, default_prompt_name="med"
    )
    without = _cross_encoder(str(tiny_cross_encoder_dir), device="cpu").predict([list(pair) for pair in PAIRS])
    _assert_same(model, CrossEncoderScorer)
    assert np.abs(model.predict([list(pair) for pair in PAIRS]) - without).max() > 1e-3


def test_a_causal_language_model_runs_through_predict_itself(roberta_dir: Path, tmp_path: Path):
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    for file in roberta_dir.glob("*token*"):
        shutil.copy(file, tmp_path)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(roberta_dir)
    tokenizer.add_tokens(["yes", "no"])
    tokenizer.save_pretrained(tmp_path)
    config = _small(LlamaConfig, vocab_size=len(tokenizer), max_position_embeddings=64, pad_token_id=1)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    _assert_same(tmp_path, CrossEncoderScorer)


def test_bf16_on_the_general_path_is_close_and_finite(tiny_cross_encoder_dir: Path):
    model = _cross_encoder(str(tiny_cross_encoder_dir), device="cpu", prompts={"m": "a "}, default_prompt_name="m")
    exact, half = (_reranker(model, dtype=dtype).predict(PAIRS) for dtype in ("float32", "bfloat16"))
    assert 0 < np.abs(exact - half).max() < 0.2


@pytest.mark.parametrize("prompt", [None, "m"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("asked", ["auto", "float32", "bfloat16"])
def test_a_callers_model_stays_as_it_is(tiny_cross_encoder_dir: Path, prompt, dtype, asked):
    model = _cross_encoder(
        str(tiny_cross_encoder_dir), device="cpu", prompts={"m": "a "}, default_prompt_name=prompt, max_length=100
    )
    model.to(dtype).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    reranker = _reranker(model, dtype=asked, max_length=32)
    first = reranker.predict(PAIRS)
    assert np.array_equal(first, reranker.predict(PAIRS))  # no dropout
    assert model.training
    assert all(module.training for module in model.modules())
    assert model.max_seq_length == 100
    assert model.device.type == "cpu"
    assert not any(module._forward_pre_hooks for module in model.modules())
    for name, value in model.state_dict().items():
        assert value.dtype == dtype
        assert torch.equal(value, before[name])


def dtype_of(reranker: BioReranker) -> torch.dtype:
    reranker.warm_up()
    return reranker._scorer.dtype


def test_the_automatic_precision_of_an_object_is_its_own(tiny_cross_encoder_dir: Path):
    model = _cross_encoder(str(tiny_cross_encoder_dir), device="cpu")
    assert dtype_of(_reranker(model, dtype="auto")) == torch.float32
    assert dtype_of(_reranker(model.to(torch.bfloat16), dtype="auto")) == torch.bfloat16


def test_more_than_one_label_is_refused(tiny_cross_encoder_dir: Path, tmp_path: Path):
    from transformers import BertConfig, BertForSequenceClassification

    for file in tiny_cross_encoder_dir.glob("*token*"):
        shutil.copy(file, tmp_path)
    BertForSequenceClassification(_small(BertConfig, vocab_size=300, num_labels=2)).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="has 2 labels; a reranker needs a model with one label"):
        _reranker(tmp_path).warm_up()
    with pytest.raises(ModelError, match="has 2 labels"):
        _reranker(_cross_encoder(str(tmp_path), device="cpu")).warm_up()


def test_an_encoder_is_refused_instead_of_ranking_at_random(tiny_encoder_dir: Path):
    with pytest.raises(ModelError, match=r"is no cross-encoder but BertModel.*no trained classification head"):
        _reranker(tiny_encoder_dir).warm_up()


def test_pickled_weights_are_refused(tiny_cross_encoder_dir: Path, tmp_path: Path):
    folder = Path(shutil.copytree(tiny_cross_encoder_dir, tmp_path / "model"))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="Cannot load a cross-encoder from the folder"):
        _reranker(folder).warm_up()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(ModelError, match="holds pickled weights only"):
        _reranker(folder).warm_up()


@pytest.mark.parametrize(
    "name", ["no-such-model", "", "./no/such/folder", "/no/such/folder", "a/b/c", Path("no/folder"), Path("none")]
)
def test_an_unknown_name_or_path_lists_the_embedded_models_without_a_network(no_network, name):
    with pytest.raises(ModelError, match=r"biorerank-encoder-minilm-l6|holds no model"):
        _reranker(name).warm_up()


def test_a_name_on_the_hub_offline(tmp_path: Path):
    with pytest.raises(
        ModelError, match=r"Cannot load a cross-encoder from 'nobody/no-such-model' from the hub.*Embedded"
    ):
        _reranker("nobody/no-such-model", local_files_only=True, cache_folder=tmp_path).warm_up()


def test_a_folder_without_a_model(tmp_path: Path):
    with pytest.raises(ModelError, match=r"holds no model: config.json is missing"):
        _reranker(tmp_path).warm_up()
    (tmp_path / "config.json").write_text("{not json")
    with pytest.raises(ModelError, match="Cannot load a cross-encoder from the folder"):
        _reranker(tmp_path).warm_up()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"backend": "openvino"}, "backend='openvino' is unknown. Choose one of: auto, torch"),
        ({"dtype": "int4"}, "dtype='int4' is unknown"),
        ({"dtype": "float16"}, "not possible on a CPU"),
        ({"device": "tpu9"}, "device='tpu9'"),
    ],
)
def test_impossible_options_are_refused(tiny_cross_encoder_dir: Path, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        BioReranker(tiny_cross_encoder_dir, **{"device": "cpu", **options}).warm_up()


class _Scorer:
    def logits(self, query, texts):
        return [0.0 for _ in texts]


@pytest.mark.parametrize("model", [5, object(), ["a"], _Scorer])
def test_what_is_no_model_is_refused(model):
    with pytest.raises(TypeError, match="model must be a name, a folder, a CrossEncoder or an object with logits"):
        _reranker(model).warm_up()


def test_a_tokenizer_of_another_model_is_refused_when_loading(tiny_cross_encoder_dir: Path, tmp_path: Path):
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_cross_encoder_dir, tmp_path / "mixed")
    weights = load_file(folder / "model.safetensors")
    words = "bert.embeddings.word_embeddings.weight"
    weights[words] = weights[words][:40].clone()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 40}))
    with pytest.raises(ModelError, match="its model knows 40: they do not belong together"):
        _reranker(folder).warm_up()
