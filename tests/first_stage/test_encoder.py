"""BiEncoder, against sentence-transformers and transformers on tiny real models."""

from __future__ import annotations

import json
import pickle
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from biorerank_plugins import models
from biorerank_plugins.errors import ModelError, PassageIndexError
from biorerank_plugins.first_stage import BiEncoder, PassageIndex
from biorerank_plugins.passages import Passage

TEXTS = [
    "p53 suppresses tumours",
    "aspirin inhibits platelets, and does not bind the receptor. " * 8,
    "x",
    "insulin lowers glucose in patients with diabetes",
    "Ünïcode α-synuclein 🧬",
]
PASSAGES = [Passage(str(number), text) for number, text in enumerate(TEXTS)]


def sentence_transformer(folder: Path, **options: Any) -> Any:
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32}, **options)


def fp32(folder: Path | str, **options: Any) -> BiEncoder:
    return BiEncoder(folder, device="cpu", dtype="float32", **options)


def hidden_states(folder: Path, *inputs: Any, max_length: int = 128) -> torch.Tensor:
    """[tokens, dimension] of one input, straight from transformers."""
    from transformers import AutoModel, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    features = tokenizer(*inputs, truncation="longest_first", max_length=max_length, return_tensors="pt")
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        return model(**features).last_hidden_state[0]


@pytest.fixture
def copy_of(tiny_encoder_dir: Path, tmp_path: Path) -> Callable[..., Path]:
    """Function that copies the tiny encoder and changes some of its JSON files."""

    def copy(**changes: dict[str, Any] | list[Any] | None) -> Path:
        folder = tmp_path / "copy"
        shutil.copytree(tiny_encoder_dir, folder)
        for name, change in changes.items():
            path = folder / f"{name.replace('__', '/')}.json"
            if change is None:
                path.unlink()
            elif isinstance(change, list):
                path.write_text(json.dumps(change))
            else:
                path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        return folder

    return copy


@pytest.fixture
def plain_dir(copy_of: Callable[..., Path]) -> Path:
    """The tiny encoder as plain transformers would have saved it."""
    folder = copy_of(modules=None, config_sentence_transformers=None, sentence_bert_config=None)
    shutil.rmtree(folder / "1_Pooling")
    return folder


# The same vectors as sentence-transformers


def test_vectors_are_those_of_sentence_transformers(tiny_encoder_dir: Path) -> None:
    encoder, expected = fp32(tiny_encoder_dir), sentence_transformer(tiny_encoder_dir).encode(TEXTS)
    for vectors in (encoder.encode_queries(TEXTS), encoder.encode_passages(PASSAGES)):
        assert vectors.dtype == np.float32
        assert vectors == pytest.approx(expected, abs=1e-5)
    assert np.linalg.norm(expected, axis=1) == pytest.approx(1.0, abs=1e-5)
    assert encoder.dimension == 32


@pytest.mark.parametrize("pooling", ["mean", "cls", "max", "lasttoken"])
@pytest.mark.parametrize("modules", [2, 3], ids=["unnormalised", "normalised"])
def test_pooling_and_normalisation_come_from_the_folder(
    pooling: str, modules: int, tiny_encoder_dir: Path, copy_of: Callable[..., Path]
) -> None:
    listed = json.loads((tiny_encoder_dir / "modules.json").read_text())[:modules]
    folder = copy_of(modules=listed, **{"1_Pooling__config": {"pooling_mode": pooling}})
    expected = sentence_transformer(folder).encode(TEXTS)
    assert fp32(folder).encode_passages(PASSAGES) == pytest.approx(expected, abs=1e-5)
    # … and the folder's word can be overruled.
    other = "cls" if pooling == "mean" else "mean"
    forced = fp32(tiny_encoder_dir, pooling=pooling, normalize=modules == 3)
    assert forced.encode_passages(PASSAGES) == pytest.approx(expected, abs=1e-5)
    assert np.abs(fp32(folder, pooling=other).encode_queries(TEXTS) - expected).max() > 1e-3


def test_folders_of_old_releases_are_understood(copy_of: Callable[..., Path]) -> None:
    folder = copy_of(
        modules=[
            {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
            {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
        ]
    )
    (folder / "1_Pooling" / "config.json").write_text(
        '{"word_embedding_dimension": 32, "pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}'
    )
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 9, "do_lower_case": false}')
    encoder = fp32(folder)
    assert encoder.config()["max_length"] == 9
    assert encoder.encode_queries(TEXTS) == pytest.approx(sentence_transformer(folder).encode(TEXTS), abs=1e-5)


def test_stored_prompts_are_used_and_can_be_switched_off(copy_of: Callable[..., Path]) -> None:
    folder = copy_of(config_sentence_transformers={"prompts": {"query": "which gene: ", "document": "abstract: "}})
    encoder, reference = fp32(folder), sentence_transformer(folder)
    assert encoder.encode_queries(TEXTS) == pytest.approx(reference.encode_query(TEXTS), abs=1e-5)
    assert encoder.encode_passages(PASSAGES) == pytest.approx(reference.encode_document(TEXTS), abs=1e-5)
    bare = fp32(folder, query_prefix="", passage_prefix="title ")
    assert bare.encode_queries(TEXTS) == pytest.approx(reference.encode(TEXTS), abs=1e-5)
    assert bare.encode_passages(PASSAGES) == pytest.approx(reference.encode(["title " + t for t in TEXTS]), abs=1e-5)


UNUSUAL = {
    "two poolings": {"1_Pooling__config": {"pooling_mode": ["mean", "cls"]}},
    "weighted mean": {"1_Pooling__config": {"pooling_mode": "weightedmean"}},
    "prompt left out of pooling": {
        "1_Pooling__config": {"include_prompt": False},
        "config_sentence_transformers": {"prompts": {"query": "which gene: "}},
    },
    "fewer dimensions": {"config_sentence_transformers": {"truncate_dim": 20}},
    "lower case": {"sentence_bert_config": {"do_lower_case": True}},
}


@pytest.mark.parametrize("unusual", UNUSUAL)
def test_unusual_folders_run_through_sentence_transformers(unusual: str, copy_of: Callable[..., Path]) -> None:
    folder = copy_of(**UNUSUAL[unusual])
    encoder, reference = fp32(folder), sentence_transformer(folder)
    assert encoder.encode_queries(TEXTS) == pytest.approx(reference.encode_query(TEXTS), abs=1e-5)
    assert encoder.encode_passages(PASSAGES) == pytest.approx(reference.encode_document(TEXTS), abs=1e-5)
    assert encoder.dimension == reference.encode(TEXTS).shape[1]
    short = fp32(folder, max_length=5)
    reference.max_seq_length = 5
    assert short.encode_passages(PASSAGES) == pytest.approx(reference.encode_document(TEXTS), abs=1e-5)
    assert short.encode_queries(TEXTS) == pytest.approx(encoder.encode_queries(TEXTS), abs=1e-6)
    assert encoder.encode_queries([]).shape == (0, encoder.dimension)


def test_a_dense_module_is_applied(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense

    torch.manual_seed(3)
    model = SentenceTransformer(str(tiny_encoder_dir), device="cpu")
    model.append(Dense(32, 12))
    model.save_pretrained(str(tmp_path / "dense"))
    encoder = fp32(tmp_path / "dense", normalize=True)
    expected = model.encode(TEXTS, normalize_embeddings=True)
    assert encoder.encode_queries(TEXTS) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ModelError, match=r"reads no .title, text. pairs"):
        fp32(tmp_path / "dense", title="pair").encode_passages(PASSAGES)
    with pytest.raises(ModelError, match="are not possible"):
        fp32(tmp_path / "dense", pooling="cls")
    weights = next((tmp_path / "dense").glob("3_*/model.safetensors"))
    weights.rename(weights.with_name("pytorch_model.bin"))
    with pytest.raises(ModelError, match="pickled weights"):
        fp32(tmp_path / "dense")


# A plain transformers folder, MedCPT's way


def test_a_plain_folder_is_pooled_by_the_mean_without_normalisation(plain_dir: Path) -> None:
    expected = [hidden_states(plain_dir, text).mean(dim=0).numpy() for text in TEXTS]
    assert fp32(plain_dir).encode_passages(PASSAGES) == pytest.approx(np.stack(expected), abs=1e-5)


def test_medcpt_s_way_title_and_text_are_a_pair_and_vectors_are_those_of_cls(plain_dir: Path) -> None:
    encoder = fp32(plain_dir, query_model=plain_dir, pooling="cls", title="pair", query_max_length=7)
    titles = ["TP53 gene", None, "", "A very long title of the study " * 20, "e"]
    passages = [Passage(str(n), text, title) for n, (text, title) in enumerate(zip(TEXTS, titles, strict=True))]
    expected = [hidden_states(plain_dir, p.title or "", p.text)[0].numpy() for p in passages]
    assert encoder.encode_passages(passages) == pytest.approx(np.stack(expected), abs=1e-5)
    expected = [hidden_states(plain_dir, text, max_length=7)[0].numpy() for text in TEXTS]
    assert encoder.encode_queries(TEXTS) == pytest.approx(np.stack(expected), abs=1e-5)


def test_titles_are_joined_or_left_out(tiny_encoder_dir: Path) -> None:
    passages = [Passage("a", "it suppresses tumours", "TP53"), Passage("b", "no title"), Passage("c", "c", "Why?")]
    reference = sentence_transformer(tiny_encoder_dir)
    joined = reference.encode(["TP53. it suppresses tumours", "no title", "Why? c"])
    assert fp32(tiny_encoder_dir).encode_passages(passages) == pytest.approx(joined, abs=1e-5)
    alone = reference.encode([p.text for p in passages])
    assert fp32(tiny_encoder_dir, title="omit").encode_passages(passages) == pytest.approx(alone, abs=1e-5)


def test_queries_go_through_their_own_model(tiny_encoder_dir: Path, plain_dir: Path) -> None:
    from transformers import AutoModel

    torch.manual_seed(9)
    model = AutoModel.from_pretrained(plain_dir)
    with torch.no_grad():
        model.embeddings.word_embeddings.weight.add_(torch.randn_like(model.embeddings.word_embeddings.weight))
    model.save_pretrained(plain_dir)
    encoder = fp32(tiny_encoder_dir, query_model=plain_dir, normalize=True)
    expected = np.stack([hidden_states(plain_dir, text).mean(dim=0).numpy() for text in TEXTS])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert encoder.encode_queries(TEXTS) == pytest.approx(expected, abs=1e-5)
    assert encoder.encode_passages(PASSAGES) == pytest.approx(fp32(tiny_encoder_dir).encode_queries(TEXTS), abs=1e-6)
    assert encoder.content_hash not in (models.content_hash(tiny_encoder_dir), models.content_hash(plain_dir))
    assert encoder.model_id == f"{tiny_encoder_dir} + {plain_dir}"


# Precision, lengths, batches, threads


def test_half_precision_weights_are_computed_in_fp32_when_asked(tiny_encoder_dir: Path, tmp_path: Path) -> None:
    """transformers takes the precision that weights are stored in unless it is told another."""
    from safetensors.torch import load_file, save_file

    folder = shutil.copytree(tiny_encoder_dir, tmp_path / "half")
    weights = load_file(folder / "model.safetensors")
    save_file({name: w.half() for name, w in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "dtype": "float16"}))
    rounded = shutil.copytree(folder, tmp_path / "rounded")
    save_file({name: w.half().float() for name, w in weights.items()}, rounded / "model.safetensors", {"format": "pt"})
    assert fp32(folder).encode_queries(TEXTS).tolist() == fp32(rounded).encode_queries(TEXTS).tolist()


def test_bf16_vectors_are_fp32_arrays_of_length_one_near_the_fp32_ones(tiny_encoder_dir: Path) -> None:
    vectors = BiEncoder(tiny_encoder_dir, device="cpu", dtype="bfloat16").encode_queries(TEXTS)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1.0, abs=1e-6)
    assert (vectors * fp32(tiny_encoder_dir).encode_queries(TEXTS)).sum(axis=1) == pytest.approx(1.0, abs=1e-2)


def test_int8_vectors_are_near_the_fp32_ones_and_do_not_depend_on_their_neighbours(tiny_encoder_dir: Path) -> None:
    encoder = BiEncoder(tiny_encoder_dir, dtype="int8")
    vectors = encoder.encode_passages(PASSAGES)
    assert (vectors * fp32(tiny_encoder_dir).encode_passages(PASSAGES)).sum(axis=1) == pytest.approx(1.0, abs=1e-2)
    alone = np.concatenate([encoder.encode_passages([passage]) for passage in PASSAGES])
    assert vectors == pytest.approx(alone, abs=1e-5)
    assert encoder.config() == fp32(tiny_encoder_dir).config()  # an index built with one is opened with the other
    assert pickle.loads(pickle.dumps(encoder)).encode_passages(PASSAGES).tolist() == vectors.tolist()


def test_int8_is_refused_where_it_is_not_possible(copy_of: Callable[..., Path]) -> None:
    with pytest.raises(ValueError, match=r"int8 runs on a CPU; got device='cuda'|device='cuda' is not available"):
        BiEncoder("/no/such/folder", dtype="int8", device="cuda")
    with pytest.raises(ModelError, match=r"dtype='int8' is not possible for .*, which makes its vectors by"):
        BiEncoder(copy_of(**UNUSUAL["two poolings"]), dtype="int8")


def test_max_length_cuts_queries_and_passages_each_at_their_own(tiny_encoder_dir: Path) -> None:
    encoder, reference = (
        fp32(tiny_encoder_dir, max_length=20, query_max_length=6),
        sentence_transformer(tiny_encoder_dir),
    )
    for length, vectors in ((20, encoder.encode_passages(PASSAGES)), (6, encoder.encode_queries(TEXTS))):
        reference.max_seq_length = length
        assert vectors == pytest.approx(reference.encode(TEXTS), abs=1e-5)


@pytest.mark.parametrize("length", [0, 3, 129, True, 10.0, "20"])
def test_impossible_lengths_are_refused(length: object, tiny_encoder_dir: Path) -> None:
    with pytest.raises(ValueError, match="this model reads 4 to 128 tokens"):
        fp32(tiny_encoder_dir, max_length=length)


def test_order_and_batches_do_not_matter(tiny_encoder_dir: Path) -> None:
    encoder = fp32(tiny_encoder_dir)
    texts = [" ".join(TEXTS[number % 5].split()[: 1 + number % 40]) for number in range(600)]
    together = encoder.encode_queries(texts)
    alone = np.concatenate([encoder.encode_queries([text]) for text in texts[::50]])
    assert together[::50] == pytest.approx(alone, abs=1e-5)
    assert encoder.encode_queries([]).shape == (0, 32)


def test_threads_with_other_lengths_do_not_disturb_each_other(tiny_encoder_dir: Path) -> None:
    encoder = fp32(tiny_encoder_dir, max_length=128, query_max_length=5)
    queries, passages = encoder.encode_queries(TEXTS), encoder.encode_passages(PASSAGES)
    wrong: list[str] = []

    def work(encode: Callable[[], np.ndarray], expected: np.ndarray) -> None:
        wrong.extend("differs" for _ in range(15) if np.abs(encode() - expected).max() > 1e-5)

    threads = [threading.Thread(target=work, args=(lambda: encoder.encode_queries(TEXTS), queries)) for _ in range(3)]
    threads += [threading.Thread(target=work, args=(lambda: encoder.encode_passages(PASSAGES), passages))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_lone_surrogates_are_read_as_question_marks(tiny_encoder_dir: Path) -> None:
    encoder = fp32(tiny_encoder_dir)
    assert encoder.encode_queries(["p53 \ud800"]).tolist() == encoder.encode_queries(["p53 ?"]).tolist()


# Which model


@pytest.mark.parametrize("name", ["no-such-model", "/no/such/folder", "./absent", "a/b/c", Path("absent")])
def test_an_unknown_model_is_refused_with_the_embedded_names(name: Any, no_network: None) -> None:
    with pytest.raises(ModelError, match=f"Embedded models: {', '.join(models.names())}"):
        BiEncoder(name)


def test_a_hub_model_that_is_not_in_the_cache_is_refused(tmp_path: Path, no_network: None) -> None:
    with pytest.raises(ModelError, match="'owner/absent' could not be had"):
        BiEncoder("owner/absent", cache_folder=tmp_path, local_files_only=True)


def test_folders_that_hold_no_bi_encoder_are_refused(
    tmp_path: Path, tiny_cross_encoder_dir: Path, copy_of: Callable[..., Path]
) -> None:
    with pytest.raises(ModelError, match=r"config\.json is missing"):
        BiEncoder(tmp_path)
    with pytest.raises(ModelError, match=r"cross-encoder|CrossEncoder"):
        BiEncoder(tiny_cross_encoder_dir)
    folder = copy_of()
    (folder / "modules.json").write_text("{")
    with pytest.raises(ModelError, match=r"modules\.json is damaged"):
        BiEncoder(folder)
    (folder / "modules.json").write_text('[{"path": "../x", "type": "sentence_transformers.models.Pooling"}]')
    with pytest.raises(ModelError, match="outside of the folder"):
        BiEncoder(folder)
    (folder / "modules.json").unlink()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(ModelError, match="no weights in the safetensors format"):
        BiEncoder(folder)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pooling": "median"}, "pooling='median'"),
        ({"title": "both"}, "title='both'"),
        ({"dtype": "int3"}, "dtype='int3'"),
    ],
)
def test_unknown_options_are_refused_before_a_model_is_loaded(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        BiEncoder("/no/such/folder", **options)


def test_wrong_inputs_are_refused(tiny_encoder_dir: Path) -> None:
    encoder = fp32(tiny_encoder_dir)
    for call, value in ((encoder.encode_queries, "a"), (encoder.encode_queries, [1]), (encoder.encode_passages, ["a"])):
        with pytest.raises(TypeError):
            call(value)  # type: ignore[operator]


# With an index


def test_an_index_finds_its_encoder_again_without_a_network(
    tiny_encoder_dir: Path, tmp_path: Path, no_network: None
) -> None:
    encoder = fp32(tiny_encoder_dir, title="omit", max_length=30)
    index = PassageIndex.build(PASSAGES, encoder=encoder)
    index.save(tmp_path / "index")
    again = PassageIndex.load(tmp_path / "index")
    assert isinstance(again.encoder, BiEncoder)
    assert again.encoder.config() == encoder.config()
    assert again.search(TEXTS[3], k=5)[0].passage.id == "3"
    assert json.loads(json.dumps(encoder.config())) == encoder.config()


def test_an_index_refuses_another_model_or_other_settings(
    tiny_encoder_dir: Path, tmp_path: Path, plain_dir: Path
) -> None:
    PassageIndex.build(PASSAGES, encoder=fp32(tiny_encoder_dir)).save(tmp_path / "index")
    with pytest.raises(PassageIndexError, match="built with another encoder"):
        PassageIndex.load(tmp_path / "index", encoder=fp32(plain_dir))
    with pytest.raises(PassageIndexError, match="title='join', this one has title='omit'"):
        PassageIndex.load(tmp_path / "index", encoder=fp32(tiny_encoder_dir, title="omit"))
    # What changes queries only is free.
    PassageIndex.load(tmp_path / "index", encoder=fp32(tiny_encoder_dir, query_max_length=9, query_prefix="which "))


def test_an_index_whose_model_was_changed_or_moved_is_refused(copy_of: Callable[..., Path], tmp_path: Path) -> None:
    folder = copy_of()
    PassageIndex.build(PASSAGES, encoder=fp32(folder)).save(tmp_path / "index")
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 64, "do_lower_case": false}')
    with pytest.raises(PassageIndexError, match="built with another encoder"):
        PassageIndex.load(tmp_path / "index")
    moved = folder.rename(tmp_path / "moved")
    with pytest.raises(PassageIndexError, match=r"cannot be loaded.*Pass it as encoder="):
        PassageIndex.load(tmp_path / "index")
    assert moved.is_dir()


def test_importing_the_package_loads_no_heavy_library() -> None:
    code = (
        "import biorerank_plugins.first_stage, sys; "
        "print([name for name in ('torch', 'faiss', 'transformers') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_cased_vocabulary_that_is_lowered_is_warned_about(
    tiny_encoder_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "cased"
    shutil.copytree(tiny_encoder_dir, folder)
    path = folder / "tokenizer.json"
    tokenizer = json.loads(path.read_text(encoding="utf-8"))
    pieces = list(tokenizer["model"]["vocab"])
    for piece in pieces[-20:]:  # the same number of entries, so that the weights fit
        tokenizer["model"]["vocab"][piece.upper()] = tokenizer["model"]["vocab"].pop(piece)
    path.write_text(json.dumps(tokenizer), encoding="utf-8")
    BiEncoder(folder, device="cpu", dtype="float32")
    assert "lower-cases text but its vocabulary is cased" in caplog.text
