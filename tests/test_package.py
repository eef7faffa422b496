"""The package as a whole: what an import loads, and what it offers."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

import biorerank_plugins
from biorerank_plugins._common.versions import install_line

HEAVY = (
    "torch",
    "transformers",
    "sentence_transformers",
    "faiss",
    "tokenizers",
    "numpy",
    "llama_index",
    "haystack",
    "langchain_core",
)


@pytest.mark.parametrize(
    "code", ["import biorerank_plugins", "from biorerank_plugins import Passage, PairScorer, models"]
)
def test_an_import_loads_neither_torch_nor_a_framework(code):
    program = f"{code}\nimport sys\nprint([name for name in {HEAVY!r} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120)
    assert result.stdout.strip() == "[]"
    assert result.stderr == ""


def test_all_is_sorted_complete_and_importable():
    assert biorerank_plugins.__all__ == sorted(biorerank_plugins.__all__)
    assert set(biorerank_plugins.__all__) == {*biorerank_plugins._HOMES, "__version__"}
    assert dir(biorerank_plugins) == biorerank_plugins.__all__
    for name in biorerank_plugins.__all__:
        assert getattr(biorerank_plugins, name) is not None


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'Reranker'"):
        _ = biorerank_plugins.Reranker
    with pytest.raises(ImportError):
        from biorerank_plugins import Reranker  # noqa: F401


def test_type_hints_are_offered():
    assert files("biorerank_plugins").joinpath("py.typed").is_file()


@pytest.mark.parametrize(
    ("origin", "here", "line"),
    [
        (None, "/", "pip install 'biorerank-plugins[serve]'"),
        ('{"url": "file:///src/plugins", "dir_info": {}}', "/", "pip install 'biorerank-plugins[serve]'"),
        (
            '{"url": "file:///src/my%20plugins", "dir_info": {"editable": true}}',
            "/",
            "pip install -e '/src/my plugins[serve]'",
        ),
        ("here", ".", "pip install -e '.[serve]'"),
    ],
)
def test_the_command_for_an_extra_is_the_one_that_works_here(
    origin: str | None, here: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """As pip notes where a package came from (PEP 610): from an index, a folder, or a checkout that stays in use."""
    info = tmp_path / "biorerank_plugins-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: biorerank-plugins\nVersion: 1.0\n")
    if origin == "here":
        origin = f'{{"url": "{tmp_path.as_uri()}", "dir_info": {{"editable": true}}}}'
    if origin is not None:
        (info / "direct_url.json").write_text(origin)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path if here == "." else here)
    assert install_line("serve") == line
