"""Hostile input: only documented errors come out, nothing is run, and the memory stays bounded."""

from __future__ import annotations

import json
import random
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.fuzz import reader_targets, targets
from support.spoil import Target

from biorerank_plugins import BiEncoder, BioReranker
from biorerank_plugins.errors import ModelError, ReaderError
from biorerank_plugins.readers import read_passages

READERS = reader_targets()
OTHERS = [
    "filter", "index vectors.faiss", "index passages.sqlite", "index lexical.npz", "manifest", "manifest bytes",
    "CURRENT",
    "model folder", "biorerank.json", "biorerank.json bytes", "from_dict BioRanker",
    "from_dict BioRetriever",
    "from_dict BioTextEmbedder", "from_dict BioDocumentEmbedder",
    "from_dict BioRerankPostprocessor", "from_dict BioEmbedding",
    "validate BioRerankCompressor", "validate BioRetriever", "command line", "shards.json", "shards.json bytes",
    "manifest of shards", "shard", "haystack filter", "llama_index filter", "answer of a tei server",
    "answer of a cohere server", "answer of a jina server", "answer of a vllm server", "request to the server",
    "application of the server", "metadata of haystack", "metadata of langchain", "metadata of llama_index",
]  # fmt: skip


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=150, suppress_health_check=list(HealthCheck))
@given(data=st.binary(max_size=300), chance=st.randoms(use_true_random=False))
def test_readers_raise_reader_errors_only(name: str, data: bytes, chance: random.Random) -> None:
    target = READERS[name]
    assert target.judge(data) is None
    assert target.attempt(chance) is None


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory, tiny_encoder_dir: Path) -> dict[str, Target]:
    for host in ("haystack", "langchain_core", "llama_index.core"):
        pytest.importorskip(host)
    return targets(tmp_path_factory.mktemp("fuzz"), tiny_encoder_dir)


@pytest.mark.parametrize("name", OTHERS)
def test_everything_else_raises_documented_errors_only(name: str, others: dict[str, Target]) -> None:
    crashes = [others[name].attempt(random.Random(f"{name} {number}")) for number in range(60)]
    assert [crash for crash in crashes if crash is not None] == []


def test_every_target_is_tested(others: dict[str, Target]) -> None:
    assert set(others) == {*READERS, *OTHERS}


# XML

_ARTICLE = "<PubmedArticleSet><PubmedArticle><MedlineCitation><PMID>1</PMID><Article><ArticleTitle>{}</ArticleTitle>\
</Article></MedlineCitation></PubmedArticle></PubmedArticleSet>"
_BOMB = "<!DOCTYPE PubmedArticleSet [<!ENTITY a0 'lol'>{}]>".format(
    "".join(f"<!ENTITY a{n} '{f'&a{n - 1};' * 10}'>" for n in range(1, 10))
)
HARMFUL_XML = {
    "an entity bomb": _BOMB + _ARTICLE.format("&a9;"),
    "an entity bomb in an attribute": _BOMB + _ARTICLE.replace("<PubmedArticleSet>", "<PubmedArticleSet x='&a9;'>"),
    "a file as entity": "<!DOCTYPE PubmedArticleSet [<!ENTITY x SYSTEM 'file://{}'>]>" + _ARTICLE.format("&x;"),
    "a parameter entity": "<!DOCTYPE PubmedArticleSet [<!ENTITY % x SYSTEM 'file://{}'> %x;]>" + _ARTICLE.format("&y;"),
    "an include": _ARTICLE.format("<i xmlns='http://www.w3.org/2001/XInclude' href='{}' parse='text'/>"),
}


@pytest.mark.parametrize("name", HARMFUL_XML)
def test_entities_are_not_expanded_and_files_not_read(name: str, tmp_path: Path, no_network: None) -> None:
    secret = tmp_path / "secret"
    secret.write_text("secret words")
    path = tmp_path / "articles.xml"
    path.write_text(HARMFUL_XML[name].replace("{}", str(secret)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    try:
        texts = [passage.text for passage in read_passages(path, bad_lines="skip")]
    except ReaderError:
        texts = []
    assert "secret words" not in "".join(texts)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10  # KiB


def test_a_document_type_is_not_fetched(tmp_path: Path, no_network: None) -> None:
    """NLM's own files name their DTD; reading them asks neither the network nor the disk for it."""
    path = tmp_path / "articles.xml"
    path.write_text("<!DOCTYPE PubmedArticleSet PUBLIC 'x' 'http://example.org/x.dtd'>" + _ARTICLE.format("A title."))
    assert [passage.text for passage in read_passages(path)] == ["A title."]


# Memory

_READ = """
import sys
from pathlib import Path
from biorerank_plugins.errors import ReaderError
from biorerank_plugins.readers import read_passages
def peak():  # of this process alone; that of getrusage counts the process it was started from
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
before = peak()
try:
    n = sum(1 for _ in read_passages(sys.argv[1], format=sys.argv[2], bad_lines="skip"))
except ReaderError:
    n = -1
print(n, peak() - before)
"""


def _memory_to_read(path: Path, format_: str) -> tuple[int, int]:
    """Return the number of passages and by how many MiB the process grew."""
    command = [sys.executable, "-c", _READ, str(path), format_]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=280)
    count, kib = done.stdout.split()
    return int(count), int(kib) >> 10


def _one_line(path: Path, size: int, begin: bytes, filling: bytes, end: bytes) -> None:
    block = filling * ((1 << 20) // len(filling))
    with path.open("wb") as file:
        file.write(begin)
        while file.tell() < size:
            file.write(block)
        file.write(end)


LINES = {
    "jsonl": (b'{"id": "1", "text": "', b"word ", b'"}\n{"id": "2", "text": "short"}\n', 1),
    "tsv": (b"1\t", b"word ", b"\n2\tshort\n", 1),
    "tsv rows that go on": (b'1\t"', b'a"\t"' + b"word " * 2000 + b"\n", b"\n", None),
    "bioasq": (b'{"questions": [{"id": "1", "body": "', b"word ", b'"}]}', -1),
    "pubmed": (b"<PubmedArticleSet><PubmedArticle><MedlineCitation><PMID>1</PMID><Article><ArticleTitle>", b"word ",
               b"</ArticleTitle></Article></MedlineCitation></PubmedArticle></PubmedArticleSet>", -1),
    "pubmed article without end": (b"<PubmedArticleSet><PubmedArticle>", b"<x/>", b"", -1),
    "text": (b"", b"word ", b"", 0),
}  # fmt: skip


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the peak is read from /proc")
@pytest.mark.parametrize("kind", LINES)
@pytest.mark.parametrize("size", [64 << 20, pytest.param(1 << 30, marks=pytest.mark.slow)], ids=["64 MiB", "1 GiB"])
def test_one_endless_line_needs_little_memory(kind: str, size: int, tmp_path: Path) -> None:
    begin, filling, end, expected = LINES[kind]
    path = tmp_path / "input"
    _one_line(path, size, begin, filling, end)
    count, grown = _memory_to_read(path, kind.split()[0])
    assert expected is None or count == expected
    # A line may have 16 MiB, and is there as bytes, as text and as value; an element of XML takes 32 times its text.
    assert grown < (600 if kind == "pubmed article without end" else 200)


# Code

_EVIL = """
import pathlib
pathlib.Path({!r}).touch()
class Evil:
    load = from_pretrained = classmethod(lambda *a, **k: 1)
"""


def _load(kind: type, folder: Path) -> None:
    if kind is BiEncoder:
        BiEncoder(folder, device="cpu").encode_queries(["a"])
        return
    with BioReranker(folder, device="cpu") as reranker:
        reranker.score("a", ["b"])


@pytest.mark.parametrize(
    ("file", "change"),
    [
        ("modules.json", [{"idx": 0, "name": "0", "path": "", "type": "evil.Evil"}]),
        ("modules.json", [{"idx": 0, "name": "0", "path": "", "type": "subprocess.Popen"}]),
        ("config.json", {"auto_map": {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}, "model_type": "evil"}),
        ("config.json", {"auto_map": {"AutoModelForSequenceClassification": "evil.Evil", "AutoModel": "evil.Evil"}}),
        ("config.json", {"sentence_transformers": {"activation_fn": "evil.Evil"}}),
        ("config_sentence_transformers.json", {"activation_fn": "evil.Evil"}),
        ("tokenizer_config.json", {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}, "tokenizer_class": "Evil"}),
    ],
)
@pytest.mark.parametrize("kind", [BiEncoder, BioReranker])
@pytest.mark.filterwarnings("ignore")
def test_a_model_folder_runs_no_code(
    kind: type, file: str, change: object, tmp_path: Path, tiny_encoder_dir: Path, tiny_cross_encoder_dir: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    import shutil

    folder, ran = tmp_path / "model", tmp_path / "ran"
    shutil.copytree(tiny_encoder_dir if kind is BiEncoder else tiny_cross_encoder_dir, folder)
    (folder / "evil.py").write_text(_EVIL.format(str(ran)))
    path = folder / file
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**content, **change} if isinstance(change, dict) else change))
    monkeypatch.chdir(folder)
    try:
        _load(kind, folder)
    except ModelError:
        pass
    assert not ran.exists()


@pytest.mark.parametrize("kind", [BiEncoder, BioReranker])
def test_pickled_weights_are_refused(
    kind: type, tmp_path: Path, tiny_encoder_dir: Path, tiny_cross_encoder_dir: Path
) -> None:
    import pickle
    import shutil

    folder, ran = tmp_path / "model", tmp_path / "ran"
    shutil.copytree(tiny_encoder_dir if kind is BiEncoder else tiny_cross_encoder_dir, folder)

    class Harmful:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (ran,)

    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Harmful()))
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="safetensors"):
        _load(kind, folder)
    assert not ran.exists()


def test_no_module_of_ours_unpickles_or_evaluates() -> None:
    """Nothing in the package loads pickles, evaluates text or trusts code of a model."""
    import ast

    import biorerank_plugins

    forbidden = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
    for path in sorted(Path(biorerank_plugins.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                names = {node.module or ""} if isinstance(node, ast.ImportFrom) else {name.name for name in node.names}
                assert not {name.split(".")[0] for name in names} & forbidden, path
            if isinstance(node, ast.Call):
                called = node.func.id if isinstance(node.func, ast.Name) else ""
                assert called not in ("eval", "exec", "compile"), path
                for option in node.keywords:
                    unsafe = {"allow_pickle": True, "trust_remote_code": True, "weights_only": False}
                    if option.arg in unsafe and isinstance(option.value, ast.Constant):
                        assert option.value.value is not unsafe[option.arg], path


def test_a_saved_pipeline_cannot_name_other_classes(tmp_path: Path) -> None:
    pytest.importorskip("haystack")
    from haystack import Pipeline

    harmful = textwrap.dedent(f"""
        components:
          ranker:
            init_parameters: {{args: ["touch", "{tmp_path / "ran"}"]}}
            type: subprocess.Popen
        connections: []
    """)
    with pytest.raises(Exception, match="subprocess"):
        Pipeline.loads(harmful)
    with pytest.raises(Exception, match=r"unmarshalling|python/object"):
        Pipeline.loads(f"components: !!python/object/apply:os.system ['touch {tmp_path / 'ran'}']")
    assert not (tmp_path / "ran").exists()
