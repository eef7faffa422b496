"""Tiny real models, made once a test run; nothing is downloaded."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

# Before any library reads them: tests never ask the hub, and do not fight over two cores.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Models are tiny: threads would only wait for one another, and a second worker for both. Tests of forks ask for two.
os.environ.setdefault("OMP_NUM_THREADS", "1")

with suppress(ImportError):  # where only other projects' clients are tested
    from hypothesis import settings

    # What an example takes says nothing on a machine that does other things too.
    settings.register_profile("without-deadline", deadline=None, max_examples=60)
    settings.load_profile("without-deadline")

WORDS = (
    "a b c d e the of is in and to for with not does do which what how who cell cells gene genes protein "
    "proteins cancer tumour tumours suppress suppresses suppressor treatment drug drugs aspirin platelet "
    "platelets heart failure patient patients disease mutation mutations brain liver kidney insulin "
    "glucose diabetes metformin lowers raises risk trial dose p53 tp53 brca1 inhibitor inhibits binds "
    "receptor therapy evidence study abstract title text first second third"
).split()


def _tokenizer_in(folder: Path, *, lowercase: bool = True) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import BertTokenizerFast

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,;:?!()-%"
    pieces = special + list(letters) + [f"##{letter}" for letter in letters] + WORDS
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    BertTokenizerFast(tokenizer_object=tokenizer, do_lower_case=lowercase, model_max_length=128).save_pretrained(folder)


def _config(folder: Path, **options: object) -> object:
    from transformers import AutoTokenizer, BertConfig

    return BertConfig(
        vocab_size=len(AutoTokenizer.from_pretrained(folder)),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=64,
        max_position_embeddings=128,
        initializer_range=0.5,  # large enough that different texts get clearly different scores
        **options,
    )


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """A command that logs more (``--debug``) does so for its own test, not for those after it."""
    loggers = [logging.getLogger(name) for name in (None, "biorerank_plugins", "sentence_transformers", "transformers")]
    before = [(logger, logger.level, list(logger.handlers)) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture(scope="session")
def tiny_cross_encoder_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a real one-label BERT cross-encoder, as sentence-transformers saves it."""
    import torch
    from sentence_transformers import CrossEncoder
    from transformers import BertForSequenceClassification

    raw, folder = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("models") / "tiny-cross-encoder"
    _tokenizer_in(raw)
    torch.manual_seed(0)
    BertForSequenceClassification(_config(raw, num_labels=1)).save_pretrained(raw)
    CrossEncoder(str(raw), device="cpu").save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def tiny_encoder_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a real mean-pooling, normalising BERT bi-encoder, as sentence-transformers saves it."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertModel

    raw, folder = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("models") / "tiny-encoder"
    _tokenizer_in(raw)
    torch.manual_seed(1)
    BertModel(_config(raw)).save_pretrained(raw)
    transformer = Transformer(str(raw))
    SentenceTransformer(modules=[transformer, Pooling(32, "mean"), Normalize()], device="cpu").save_pretrained(
        str(folder)
    )
    return folder


@pytest.fixture(scope="session")
def make_tokenizer() -> Callable[..., None]:
    """Function that saves a small tokenizer in a folder."""
    return _tokenizer_in


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fail on any attempt to open a connection."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("A network connection was attempted.")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the evaluation data: ``$BIORERANK_DATA``, or ``../shared/data`` beside the checkout."""
    given = os.environ.get("BIORERANK_DATA")
    folder = Path(given) if given else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "bioasq" / "corpus.jsonl.gz").is_file():
        pytest.skip("the evaluation data is not here; set BIORERANK_DATA (docs/explanation/measured.md, 'Data')")
    return folder
