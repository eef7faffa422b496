"""Each host is an extra: only its own adapter imports it, and says how to install it where it is missing."""

from __future__ import annotations

import json

import pytest
from support.fresh import run_fresh

from biorerank_plugins._common.versions import install_line

HOSTS = ("llama_index", "haystack", "langchain_core")

# Hosts that are not installed: the import system finds nothing under their names, and notes who looks.
BLOCKED = """
import importlib.abc, sys
blocked, sought = {blocked!r}, []
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in blocked:
            sought.append(name)
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
"""

ADAPTERS = {
    "from biorerank_plugins.llama_index import BioRerankPostprocessor": ("llama_index", "llama-index"),
    "import biorerank_plugins.llama_index.retriever": ("llama_index", "llama-index"),
    "from biorerank_plugins.haystack import BioRanker": ("haystack", "haystack"),
    "from haystack_integrations.components.rankers.biorerank import BioRanker": ("haystack", "haystack"),
    "from haystack_integrations.components.retrievers.biorerank import BioRetriever": ("haystack", "haystack"),
    "from haystack_integrations.components.embedders.biorerank import BioTextEmbedder": ("haystack", "haystack"),
    "from biorerank_plugins.langchain import BioRerankCompressor": ("langchain_core", "langchain"),
    "import biorerank_plugins.langchain.retriever": ("langchain_core", "langchain"),
}


def test_an_adapter_without_its_host_names_the_pip_line():
    program = f"""{BLOCKED.format(blocked=())}
import json
from biorerank_plugins.errors import MissingExtraError
said = {{}}
for code, (host, _) in {ADAPTERS!r}.items():
    blocked = (host,)
    try:
        exec(code)
    except MissingExtraError as error:
        said[code] = str(error)
print(json.dumps(said))
"""
    result = run_fresh(program)
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    for code, (host, extra) in ADAPTERS.items():
        assert said[code].startswith(f"This needs the package '{host}"), code
        assert said[code].endswith(install_line(extra)), code


def test_the_core_needs_no_host():
    """Whatever the public names are, they load, and rank, where no host is installed; and none is looked for."""
    program = f"""{BLOCKED.format(blocked=HOSTS)}
import biorerank_plugins
for name in biorerank_plugins.__all__:
    getattr(biorerank_plugins, name)
import biorerank_plugins.adapters_common, biorerank_plugins.cli, biorerank_plugins.evaluation
from biorerank_plugins.testing import ScriptedScorer
scorer = ScriptedScorer(lambda query, text: float(text))
print([line.input_index for line in biorerank_plugins.BioReranker(scorer).rank("q", ["1", "3", "2"])], sought)
"""
    result = run_fresh(program)
    assert (result.returncode, result.stdout.strip()) == (0, "[1, 2, 0] []"), result.stderr


@pytest.mark.parametrize(
    ("code", "own"),
    [
        ("from biorerank_plugins.llama_index import BioRerankPostprocessor", "llama_index"),
        ("from biorerank_plugins.haystack import BioRanker", "haystack"),
        ("from biorerank_plugins.langchain import BioRerankCompressor", "langchain_core"),
    ],
)
def test_nothing_imports_a_host_of_another_adapter(code, own):
    others = [host for host in HOSTS if host != own]
    result = run_fresh(f"{code}\nimport sys\nprint([name for name in {others!r} if name in sys.modules])")
    assert (result.returncode, result.stdout.strip()) == (0, "[]"), result.stderr
