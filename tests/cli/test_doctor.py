"""``biorerank doctor`` on a sound installation, and on broken ones."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest
from typer.testing import Result

from biorerank_plugins import models
from biorerank_plugins._common.versions import install_line
from biorerank_plugins.doctor import examine

Run = Callable[..., Result]

embedded = pytest.mark.skipif(
    not {models.DEFAULT_RERANKER, models.DEFAULT_ENCODER} <= set(models.names()),
    reason="the embedded models are not here",
)


@embedded
def test_a_sound_installation(run: Run, index_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIORERANK_LLM_KEY", "a-secret-key")
    result = run("doctor", "--index", index_folder, "--json")
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["problems"] == []
    assert found["versions"]["torch"] == metadata.version("torch")
    assert found["reranker"]["best of three"] == "Idarucizumab reverses dabigatran."
    assert models.DEFAULT_RERANKER in found["reranker"]["runs"]
    assert found["models"].keys() == {models.DEFAULT_RERANKER, models.DEFAULT_ENCODER}
    assert all(text.endswith("(as released)") for text in found["models"].values())
    assert found[f"index {index_folder}"]["passages"] == 6
    assert "a-secret-key" not in result.output


@embedded
def test_the_embedded_models_are_the_released_ones() -> None:
    assert all(models.is_as_released(name) for name in models.names())


def test_tables_for_people(run: Run, tiny_cross_encoder_dir: Path) -> None:
    result = run("doctor", "--model", tiny_cross_encoder_dir)
    assert "torch" in result.stdout
    # Where another test of this process holds the model still, it was told there.
    assert "backend" in result.stdout or "as this process loaded it before" in result.stdout
    if result.exit_code:  # a model without training may put any of the three first
        assert "is no good reranker" in result.stderr


def test_a_damaged_index_and_none(run: Run, index_folder: Path, tmp_path: Path) -> None:
    import shutil

    broken = tmp_path / "broken"
    shutil.copytree(index_folder, broken)
    vectors = next(broken.rglob("vectors.faiss"))
    data = bytearray(vectors.read_bytes())
    data[len(data) // 2] ^= 1
    vectors.write_bytes(data)
    found = examine(indexes=[broken, tmp_path / "none"], self_test=False)
    assert len(found.problems) == 2
    assert "vectors.faiss" in found.problems[0]
    assert "There is no passage index" in found.problems[1]
    assert run("doctor", "--index", tmp_path / "none").exit_code == 1


@embedded
def test_a_sharded_index_with_a_lost_shard(tmp_path: Path) -> None:
    import shutil

    from biorerank_plugins.scale import ShardedIndex

    texts = [f"Passage number {number}." for number in range(20)]
    ShardedIndex.build(texts, tmp_path / "shards", shards=2).close()
    whole = examine(indexes=[tmp_path / "shards"], self_test=False)
    assert whole.problems == []
    assert whole.sections[f"index {tmp_path / 'shards'}"] | {"format": 0} == {
        "passages": 20, "format": 0, "factory": "Flat", "encoder": models.DEFAULT_ENCODER, "lexical part": True,
        "shards": 2,
    }  # fmt: skip
    shutil.rmtree(tmp_path / "shards" / "shard-0001")
    assert "shard-0001 cannot be opened" in examine(indexes=[tmp_path / "shards"], self_test=False).problems[0]


def test_a_model_that_is_not_there(tmp_path: Path) -> None:
    found = examine(model=str(tmp_path / "none"))
    assert any(problem.startswith("reranker:") for problem in found.problems)
    assert "versions" in found.sections


def test_packages_that_cannot_be_imported_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """faiss is broken, and pypdf is not installed."""
    (tmp_path / "faiss.py").write_text("raise ImportError('libfaiss.so: undefined symbol')")
    real = metadata.version

    def version(name: str) -> str:
        if name == "pypdf":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.delitem(sys.modules, "faiss", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    found = examine(self_test=False).to_dict()
    assert any("faiss-cpu" in one and "undefined symbol" in one for one in found["problems"])
    assert found["extras"]["pdf"] == f"not installed: {install_line('pdf')}"
