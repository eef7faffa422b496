"""No network, no print, no change to the root logger (whole pipelines, given a folder)."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from support.examples import assert_the_right_passage_is_quoted

from biorerank_plugins import BiEncoder, BioReranker, Passage, PassageIndex, TwoStageSearch

PASSAGES = [Passage("1", "p53 suppresses tumours."), Passage("2", "Aspirin binds platelets.", "Aspirin")]


def test_a_reranker_of_a_folder(tiny_cross_encoder_dir: Path, no_network, monkeypatch, capsys):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    root = logging.getLogger()
    before = (root.level, list(root.handlers), list(root.filters), logging.raiseExceptions)
    with BioReranker(tiny_cross_encoder_dir, device="cpu") as reranker:
        assert len(reranker.rank("what is p53", PASSAGES)) == 2
        assert len(reranker.rank("what is p53", PASSAGES, show_progress=True)) == 2
    assert (root.level, list(root.handlers), list(root.filters), logging.raiseExceptions) == before
    assert logging.getLogger("biorerank_plugins").handlers == []
    assert capsys.readouterr().out == ""


def test_both_stages(tiny_cross_encoder_dir: Path, tiny_encoder_dir: Path, no_network, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    index = PassageIndex.build(PASSAGES, encoder=BiEncoder(tiny_encoder_dir, device="cpu"))
    search = TwoStageSearch(index, BioReranker(tiny_cross_encoder_dir, device="cpu"))
    ranking = search.search("what is p53", candidates=2)
    assert {line.passage.id for line in ranking} == {"1", "2"}


# Whole pipelines of every host, then the examples as a person runs them, in one process whose sockets are blocked from
# before the first import: importing all hosts takes longer than what is done with them.

_BLOCKED = """
import json, sys
attempts = []
def audit(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"):
        address = arguments[-1] if event == "socket.connect" else arguments
        if isinstance(address, (str, bytes)):  # a Unix socket of this machine
            return
        attempts.append(event + " " + repr(arguments[1:]))
        raise ConnectionRefusedError("sockets are blocked")
sys.addaudithook(audit)
from biorerank_plugins import BiEncoder, PassageIndex, Passage
encoder, reranker, folder, *examples = sys.argv[1:]
passages = [Passage("1", "p53 suppresses tumours.", "TP53"), Passage("2", "Aspirin binds platelets."),
            Passage("3", "Insulin lowers glucose.")]
index = PassageIndex.build(passages, encoder=BiEncoder(encoder, device="cpu"))
index.save(folder)
"""

_PIPELINES = {
    "plain": """
from biorerank_plugins import BioReranker, TwoStageSearch
with BioReranker(reranker, device="cpu") as model:
    search = TwoStageSearch(PassageIndex.load(folder), model)
    ids = [line.passage.id for line in search.search("what is p53", evidence=1)]
""",
    "haystack": """
from haystack import Document, Pipeline
from biorerank_plugins.haystack import BioDocumentEmbedder, BioRanker, BioRetriever, BioTextEmbedder
pipeline = Pipeline()
pipeline.add_component("retriever", BioRetriever(folder))
pipeline.add_component("ranker", BioRanker(model=reranker, evidence=1))
pipeline.connect("retriever.documents", "ranker.documents")
pipeline = Pipeline.loads(pipeline.dumps())
found = pipeline.run({"retriever": {"query": "what is p53"}, "ranker": {"query": "what is p53"}})
ids = [document.id for document in found["ranker"]["documents"]]
assert BioTextEmbedder(model=encoder).run("what is p53")["embedding"]
assert BioDocumentEmbedder(model=encoder).run([Document(content="p53")])["documents"][0].embedding
""",
    "langchain": """
from biorerank_plugins.langchain import BioRerankCompressor, BioRetriever
found = BioRetriever(index=folder, k=3).invoke("what is p53")
ids = [d.id for d in BioRerankCompressor(model=reranker, evidence=1).compress_documents(found, "what is p53")]
""",
    "llama_index": """
from llama_index.core import get_response_synthesizer
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from biorerank_plugins.llama_index import BioEmbedding, BioRerankPostprocessor, BioRetriever
engine = RetrieverQueryEngine.from_args(
    BioRetriever(folder), llm=MockLLM(), node_postprocessors=[BioRerankPostprocessor(reranker, top_n=3, evidence=1)]
)
ids = [source.node.node_id for source in engine.query("what is p53").source_nodes]
assert BioEmbedding(encoder).get_query_embedding("what is p53")
""",
}
_NEEDS = {"haystack": "haystack", "langchain": "langchain_core", "llama_index": "llama_index.core"}

_EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))  # whatever is added is run too
_RUN_EXAMPLES = """
import contextlib, io, runpy
for path in examples:
    sys.argv, printed = [path], io.StringIO()
    with contextlib.redirect_stdout(printed):
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as leaving:
            assert not leaving.code, (path, leaving)
    told[path] = [printed.getvalue(), attempts[:]]
    attempts.clear()
"""


def test_pipelines_and_examples_without_sockets(
    tiny_encoder_dir: Path, tiny_cross_encoder_dir: Path, tmp_path: Path
) -> None:
    """The hub's own switches are off, so that it is our code that asks nobody; Haystack's telemetry is the user's."""
    missing = {host for host, needed in _NEEDS.items() if find_spec(needed.partition(".")[0]) is None}
    hosts = [host for host in _PIPELINES if host not in missing]
    examples = [str(path) for path in _EXAMPLES if not any(host in path.stem for host in missing)]
    code = _BLOCKED + "told = {}\n"
    for host in hosts:
        code += f"{_PIPELINES[host]}told[{host!r}] = [sorted(ids), attempts[:]]\nattempts.clear()\n"
    done = subprocess.run(
        [
            sys.executable, "-c", f"{code}{_RUN_EXAMPLES}print(json.dumps(told))",
            tiny_encoder_dir, tiny_cross_encoder_dir, tmp_path / "index", *examples,
        ],
        capture_output=True, text=True, env=_environment(), timeout=280, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Error" not in done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert {host: told[host] for host in hosts} == {host: [["1", "2", "3"], []] for host in hosts}
    for path in examples:
        printed, attempts = told[path]
        assert attempts == [], path
        if Path(path).stem == "quickstart":
            _assert_three_lines(printed)
        else:
            assert_the_right_passage_is_quoted(printed)


def _assert_three_lines(printed: str) -> None:
    lines = printed.splitlines()
    assert [line.split()[0] for line in lines] == ["1.", "2.", "3."]
    assert "[c]" in lines[0]


def _environment() -> dict[str, str]:
    """What a process without settings sees."""
    other = ("HF_HUB_OFFLINE", "LD_PRELOAD", "BIORERANK_LLM", "OPENAI")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(other)}
    return {**kept, "HAYSTACK_TELEMETRY_ENABLED": "False"}  # what the documentation tells to do


def test_the_block_would_be_noticed(tmp_path: Path) -> None:
    code = _BLOCKED.partition("from biorerank_plugins")[0] + "import socket; socket.create_connection(('127.0.0.1', 9))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "sockets are blocked" in done.stderr
