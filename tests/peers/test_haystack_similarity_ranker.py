"""SentenceTransformersSimilarityRanker of sentence-transformers-haystack beside BioRanker, on the same model folder.

First what both must do alike, then what the public tests of theirs ask for, in our words, then by name each place where
ours does it in another way.
"""

from __future__ import annotations

import copy
import inspect
import json
import math
import os
import shutil
from pathlib import Path

os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "False"  # before Haystack is imported

import pytest
import torch
from haystack import Document, Pipeline
from haystack.utils import ComponentDevice, Secret

from biorerank_plugins.errors import ScoringError
from biorerank_plugins.haystack import BioRanker

# Theirs passes an argument that sentence-transformers 6 is giving up.
pytestmark = pytest.mark.filterwarnings("ignore:.*convert_to_numpy.*")

CPU = ComponentDevice.from_str("cpu")
QUERY = "is p53 a tumour suppressor"
TEXTS = [
    "p53 suppresses tumours",
    "aspirin inhibits platelets in heart disease",
    "insulin lowers glucose",
    "brca1 mutations raise the risk of cancer in patients",
    "metformin lowers glucose in diabetes",
    "the liver and the kidney",
    "a trial of the drug dose in patients with heart failure",
    "receptor binds inhibitor",
]
OURS = inspect.signature(BioRanker.__init__).parameters


def documents() -> list[Document]:
    metas = [{"year": 2000 + n, "zero": 0, "flag": False, "none": None, "empty": ""} for n in range(len(TEXTS))]
    return [
        Document(id=str(n), content=text, meta=meta, score=n / 10)
        for n, (text, meta) in enumerate(zip(TEXTS, metas, strict=True))
    ]


def host():
    """Their class; loaded by the tests that need it, for that takes seconds."""
    from haystack_integrations.components.rankers.sentence_transformers import SentenceTransformersSimilarityRanker

    return SentenceTransformersSimilarityRanker


def theirs(folder: Path, **options):
    return host()(model=folder, device=CPU, **options)


def ours(folder: Path, **options) -> BioRanker:
    return BioRanker(model=folder, device=CPU, dtype="float32", **options)


def both(folder: Path, given: list[Document], call: dict | None = None, **options):
    request = {"query": QUERY, "documents": given, **(call or {})}
    return theirs(folder, **options).run(**request)["documents"], ours(folder, **options).run(**request)["documents"]


def ids(found: list[Document]) -> list[str]:
    return [one.id for one in found]


def changed_model(source: Path, folder: Path, change) -> Path:
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, folder)
    weights = load_file(folder / "model.safetensors")
    change(weights)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


# The same order, the same values


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"top_k": 3},
        {"top_k": 99},
        {"scale_score": False},
        {"score_threshold": 0.5},
        {"score_threshold": 0.0},
        {"scale_score": False, "score_threshold": 0.0},
        {"scale_score": False, "score_threshold": -1.5, "top_k": 2},
        {"query_prefix": "what is ", "query_suffix": " gene"},
        {"document_prefix": "study: ", "document_suffix": " trial"},
        {"meta_fields_to_embed": ["year"]},
        {"meta_fields_to_embed": ["zero", "flag", "none", "empty", "missing", "year"], "embedding_separator": " | "},
        {"batch_size": 1},
        {"model_kwargs": {"torch_dtype": torch.float32}, "tokenizer_kwargs": {"model_max_length": 64}},
        {"model_kwargs": {}, "tokenizer_kwargs": {}, "config_kwargs": {}, "meta_fields_to_embed": []},
    ],
    ids=str,
)
def test_same_order_and_values(tiny_cross_encoder_dir, options):
    their_documents, our_documents = both(tiny_cross_encoder_dir, documents(), **options)
    assert ids(our_documents) == ids(their_documents)
    scaled = options.get("scale_score", True)
    # The tiny model's weights are ten times those of a trained one, and so is what rounding does to its logits.
    tolerance = 1e-5 if scaled else 1e-4
    assert [one.score for one in our_documents] == pytest.approx([one.score for one in their_documents], abs=tolerance)


@pytest.mark.parametrize(
    "call",
    [{"top_k": 2}, {"scale_score": False}, {"scale_score": True}, {"score_threshold": 0.4}, {"score_threshold": 0.0}],
    ids=str,
)
def test_what_a_call_overrides(tiny_cross_encoder_dir, call):
    settings = {"top_k": 5, "scale_score": not call.get("scale_score", False), "score_threshold": 0.3}
    their_documents, our_documents = both(tiny_cross_encoder_dir, documents(), call, **settings)
    assert ids(our_documents) == ids(their_documents)
    assert [one.score for one in our_documents] == pytest.approx([one.score for one in their_documents], abs=1e-4)


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_documents(tiny_cross_encoder_dir, count):
    their_documents, our_documents = both(tiny_cross_encoder_dir, documents()[:count])
    assert ids(our_documents) == ids(their_documents)
    assert len(our_documents) == count


def test_documents_without_content(tiny_cross_encoder_dir):
    given = [Document(id="none", content=None), Document(id="empty", content=""), *documents()[:2]]
    their_documents, our_documents = both(tiny_cross_encoder_dir, given)
    assert sorted(ids(our_documents)) == sorted(ids(their_documents)) == ["0", "1", "empty", "none"]
    their_scores = {one.id: one.score for one in their_documents}
    assert {one.id: one.score for one in our_documents} == pytest.approx(their_scores, abs=1e-5)


def test_the_other_fields_of_a_document(tiny_cross_encoder_dir):
    given = [Document(content="p53", meta={"a": [1]}, embedding=[0.5])]
    [their_document], [our_document] = both(tiny_cross_encoder_dir, given)
    kept = our_document.meta.pop("biorerank_retrieval_score", None)
    assert kept is None
    assert (our_document.id, our_document.content, our_document.meta, our_document.embedding) == (
        their_document.id,
        their_document.content,
        their_document.meta,
        their_document.embedding,
    )


# The swap, argument by argument


def test_every_argument_of_theirs_is_accepted_with_the_same_default():
    parameters = inspect.signature(host().__init__).parameters
    assert parameters.keys() <= OURS.keys()
    assert {name for name in parameters if OURS[name].default != parameters[name].default} == {"model"}
    defaults = {name: one.default for name, one in parameters.items() if name != "self"}
    saved = BioRanker(**defaults).to_dict()["init_parameters"]
    assert {name: saved[name] for name in defaults if name not in ("token", "meta_fields_to_embed")} == {
        name: value for name, value in defaults.items() if name not in ("token", "meta_fields_to_embed")
    }


def test_every_argument_of_theirs_with_another_value():
    parameters = inspect.signature(host().__init__).parameters
    others = {
        "model": "some/model",
        "device": ComponentDevice.from_str("cuda:0"),
        "token": Secret.from_env_var("ANOTHER", strict=False),
        "top_k": 3,
        "query_prefix": "a",
        "query_suffix": "b",
        "document_prefix": "c",
        "document_suffix": "d",
        "meta_fields_to_embed": ["year"],
        "embedding_separator": " ",
        "scale_score": False,
        "score_threshold": 0.5,
        "model_kwargs": {"torch_dtype": torch.float16},
        "tokenizer_kwargs": {"model_max_length": 256},
        "batch_size": 4,
    }
    refused = {"trust_remote_code": True, "config_kwargs": {"a": 1}, "backend": "openvino"}
    assert {*others, *refused, "self"} == parameters.keys()
    their_parameters = host()(**others).to_dict()["init_parameters"]
    others["model_kwargs"] = {"torch_dtype": torch.float16}
    our_parameters = BioRanker(**others).to_dict()["init_parameters"]
    assert {name: our_parameters[name] for name in others} == {name: their_parameters[name] for name in others}
    for name, value in refused.items():
        with pytest.raises(ValueError, match=name):
            BioRanker(**{name: value})


def test_a_run_takes_the_same_arguments():
    their_call = inspect.signature(host().run).parameters
    for method in (BioRanker.run, BioRanker.run_async):
        call = inspect.signature(method).parameters
        assert [(one.name, one.kind, one.default) for one in call.values()] == [
            (one.name, one.kind, one.default) for one in their_call.values()
        ]


def test_the_swap_in_a_saved_pipeline(tiny_cross_encoder_dir):
    pipeline = Pipeline()
    pipeline.add_component("ranker", theirs(tiny_cross_encoder_dir, top_k=3))
    text = pipeline.dumps()
    swapped = text.replace(
        "haystack_integrations.components.rankers.sentence_transformers.sentence_transformers_similarity"
        ".SentenceTransformersSimilarityRanker",
        "haystack_integrations.components.rankers.biorerank.ranker.BioRanker",
    )
    assert swapped != text
    data = {"ranker": {"query": QUERY, "documents": documents()}}
    found, expected = (one.run(data)["ranker"]["documents"] for one in (Pipeline.loads(swapped), pipeline))
    assert ids(found) == ids(expected)


# What the tests of theirs ask for


@pytest.mark.parametrize("top_k", [0, -1])
def test_top_k_must_be_positive(tiny_cross_encoder_dir, top_k):
    for kind in (theirs, ours):
        with pytest.raises(ValueError, match=f"got {top_k}"):
            kind(tiny_cross_encoder_dir, top_k=top_k)
        with pytest.raises(ValueError, match=f"got {top_k}"):
            kind(tiny_cross_encoder_dir).run(query=QUERY, documents=documents(), top_k=top_k)


@pytest.mark.parametrize("kind", [theirs, ours])
def test_settings_survive_saving_with_a_precision_as_text(tiny_cross_encoder_dir, kind):
    ranker = kind(tiny_cross_encoder_dir, model_kwargs={"torch_dtype": torch.float32}, top_k=2)
    expected = ranker.run(query=QUERY, documents=documents())["documents"]
    saved = ranker.to_dict()
    assert saved["init_parameters"]["model_kwargs"] == {"torch_dtype": "torch.float32"}
    again = type(ranker).from_dict(json.loads(json.dumps(saved)))
    assert ids(again.run(query=QUERY, documents=documents())["documents"]) == ids(expected)
    assert again.to_dict() == saved


@pytest.mark.parametrize("kind", [theirs, ours])
def test_a_secret_of_the_environment_is_saved_by_name_and_a_token_never(tiny_cross_encoder_dir, kind):
    saved = kind(tiny_cross_encoder_dir, token=Secret.from_env_var("MINE", strict=False)).to_dict()
    assert saved["init_parameters"]["token"] == {"type": "env_var", "env_vars": ["MINE"], "strict": False}
    with pytest.raises(ValueError, match="token-based secret"):
        kind(tiny_cross_encoder_dir, token=Secret.from_token("abc")).to_dict()


@pytest.mark.parametrize("kind", [theirs, ours])
def test_warming_up_twice_is_warming_up_once(tiny_cross_encoder_dir, kind):
    ranker = kind(tiny_cross_encoder_dir)
    ranker.warm_up()
    first = ranker.run(query=QUERY, documents=documents())
    ranker.warm_up()
    assert ranker.run(query=QUERY, documents=documents()) == first


@pytest.mark.parametrize("kind", [theirs, ours])
def test_the_given_documents_keep_their_scores(tiny_cross_encoder_dir, kind):
    given = documents()
    before = copy.deepcopy(given)
    kind(tiny_cross_encoder_dir).run(query=QUERY, documents=given)
    assert given == before


# Where theirs goes wrong


def test_theirs_loses_the_score_of_the_first_stage(tiny_cross_encoder_dir):
    their_documents, our_documents = both(tiny_cross_encoder_dir, documents())
    assert all("score" not in key for one in their_documents for key in one.meta)
    kept = {one.id: one.meta["biorerank_retrieval_score"] for one in our_documents}
    assert kept == {one.id: one.score for one in documents()}


def test_theirs_gives_the_callers_metadata_out_of_hand(tiny_cross_encoder_dir):
    for kind, shared in ((theirs, True), (ours, False)):
        given = documents()[:1]
        [found] = kind(tiny_cross_encoder_dir).run(query=QUERY, documents=given)["documents"]
        found.meta["mine"] = 1
        assert ("mine" in given[0].meta) is shared


def test_theirs_changes_its_own_settings_when_they_are_saved(tiny_cross_encoder_dir):
    for kind, left in ((theirs, "torch.float32"), (ours, torch.float32)):
        ranker = kind(tiny_cross_encoder_dir, model_kwargs={"torch_dtype": torch.float32})
        ranker.to_dict()
        assert ranker.model_kwargs == {"torch_dtype": left}
        if kind is theirs:  # the name that it now holds is none that transformers knows
            with pytest.raises(ValueError, match="valid `torch"):
                ranker.warm_up()
        else:
            ranker.warm_up()


def test_theirs_reads_the_beginning_of_a_long_document_only(tiny_cross_encoder_dir):
    beginning = "the liver and the kidney of patients in a trial " * 40
    ends = ["p53 suppresses tumours", "insulin lowers glucose"]
    given = [Document(id=end, content=beginning + end) for end in ends]
    their_documents, our_documents = both(tiny_cross_encoder_dir, given, scale_score=False)
    assert their_documents[0].score == pytest.approx(their_documents[1].score, abs=1e-4)
    # The best window counts, so that what stands at the end can only raise the score, and here it does.
    theirs_score = their_documents[0].score
    assert max(one.score for one in our_documents) > theirs_score + 1e-3


def test_theirs_cannot_order_what_the_sigmoid_makes_equal(tiny_cross_encoder_dir, tmp_path):
    def shift(weights):
        weights["classifier.bias"] += 60.0

    folder = changed_model(tiny_cross_encoder_dir, tmp_path / "sure", shift)
    their_documents, our_documents = both(folder, documents())
    assert {one.score for one in their_documents} == {one.score for one in our_documents} == {1.0}
    by_logit, _ = both(folder, documents(), scale_score=False)
    assert ids(our_documents) == ids(by_logit)
    assert ids(their_documents) != ids(by_logit)


def test_theirs_returns_scores_that_are_no_numbers(tiny_cross_encoder_dir, tmp_path):
    def spoil(weights):
        weights["classifier.bias"] += math.nan

    folder = changed_model(tiny_cross_encoder_dir, tmp_path / "spoiled", spoil)
    found = theirs(folder).run(query=QUERY, documents=documents())["documents"]
    assert all(math.isnan(one.score) for one in found)
    with pytest.raises(ScoringError, match="no finite logit"):
        ours(folder).run(query=QUERY, documents=documents())


@pytest.mark.parametrize("top_k", [0, -1])
def test_theirs_takes_any_top_k_where_there_is_nothing_to_rank(tiny_cross_encoder_dir, top_k):
    assert theirs(tiny_cross_encoder_dir).run(query=QUERY, documents=[], top_k=top_k) == {"documents": []}
    with pytest.raises(ValueError, match=f"got {top_k}"):
        ours(tiny_cross_encoder_dir).run(query=QUERY, documents=[], top_k=top_k)


def test_theirs_ranks_for_an_empty_question(tiny_cross_encoder_dir):
    assert len(theirs(tiny_cross_encoder_dir).run(query=" ", documents=documents())["documents"]) == len(TEXTS)
    with pytest.raises(ValueError, match="empty"):
        ours(tiny_cross_encoder_dir).run(query=" ", documents=documents())


def test_theirs_has_no_async_run_and_nothing_to_close():
    for name in ("run_async", "close", "warm_up_async"):
        assert not hasattr(host(), name)
        assert hasattr(BioRanker, name)


# Where ours differs on purpose


def test_of_one_id_theirs_keeps_the_best_scored_and_ours_the_first(tiny_cross_encoder_dir):
    given = [
        Document(id="x", content="p53", meta={"copy": 1}, score=0.1),
        Document(id="x", content="p53", meta={"copy": 2}, score=0.9),
    ]
    [their_document], [our_document] = both(tiny_cross_encoder_dir, given)
    assert (their_document.meta["copy"], our_document.meta["copy"]) == (2, 1)
    assert our_document.score == pytest.approx(their_document.score, abs=1e-5)


def test_a_device_that_was_left_open_stays_open(tiny_cross_encoder_dir):
    their_device = host()(model=tiny_cross_encoder_dir).to_dict()["init_parameters"]
    assert their_device["device"] is not None  # of the machine it was saved on
    assert BioRanker(model=tiny_cross_encoder_dir).to_dict()["init_parameters"]["device"] is None


def test_a_model_without_activation_keeps_its_own_scale(tiny_cross_encoder_dir, tmp_path):
    folder = tmp_path / "identity"
    shutil.copytree(tiny_cross_encoder_dir, folder)
    file = folder / "config_sentence_transformers.json"
    config = {**json.loads(file.read_text()), "activation_fn": "torch.nn.modules.linear.Identity"}
    file.write_text(json.dumps(config))
    their_documents, our_documents = both(folder, documents())
    assert ids(our_documents) == ids(their_documents)
    sigmoid = [1 / (1 + math.exp(-one.score)) for one in our_documents]
    assert sigmoid == pytest.approx([one.score for one in their_documents], abs=1e-5)
