"""What is handed out: the metadata that others read, the source archive, the wheel, the image's description."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support import ROOT

from biorerank_plugins import __version__, models

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
IN_THE_WHEEL = ("biorerank_plugins", "haystack_integrations")


def test_the_citation_names_this_version():
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert (cited["version"], cited["license"]) == (__version__, PROJECT["project"]["license"])
    assert f"## [{__version__}] - {cited['date-released']}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@pytest.mark.skipif(find_spec("llama_index") is None, reason="llama-index-core is not installed")
def test_llama_hub_finds_each_class_where_it_is_said_to_be():
    hub = PROJECT["tool"]["llamahub"]
    module = import_module(hub["import_path"])
    assert sorted(hub["class_authors"]) == sorted(module.__all__)


def test_the_licences_of_all_that_is_needed_are_named():
    page = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\S+) \| \S+ \| (.+) \|$", page, re.MULTILINE))
    needed = {canonicalize_name(Requirement(line).name) for line in PROJECT["project"]["dependencies"]}
    assert needed <= rows.keys()  # after a new dependency: python .ci/licences.py > docs/licences.md
    assert "not said" not in rows.values()


def test_the_image_is_made_of_files_that_are_there():
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = [
        name for line in re.findall(r"^COPY (?!--from)(.+) \S+$", dockerfile, re.MULTILINE) for name in line.split()
    ]
    assert set(IN_THE_WHEEL) < set(copied)
    for name in copied:
        assert (ROOT / name).exists() and f"!{name}" in ignored
    assert re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE) not in ([], ["root"], ["0"])


def test_the_health_check_of_the_image(tiny_cross_encoder_dir: Path):
    pytest.importorskip("fastapi", reason="the extra serve is not installed")
    from support.serve import started

    from biorerank_plugins import BioReranker

    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    code = re.search(r'^HEALTHCHECK .*CMD \["python", "-c", "(.*)"\]$', dockerfile, re.MULTILINE)
    assert code is not None
    with started(BioReranker(tiny_cross_encoder_dir, device="cpu")) as running:
        port = urlsplit(running.url).port
        assert _check(code[1], port) == 0
    assert _check(code[1], port) != 0


def _check(code: str, port: int | None) -> int:
    here = code.replace("8080", str(port))
    assert here != code
    return subprocess.run([sys.executable, "-c", here], capture_output=True, check=False).returncode


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two wheels of one source archive, built without git, in different folders, the second with younger files."""
    pytest.importorskip("hatchling", reason="hatchling is not installed")
    folder = tmp_path_factory.mktemp("build")
    checkout = folder / "checkout"
    left = shutil.ignore_patterns(
        ".git", ".venv", "build", "dist", ".*_cache", "__pycache__", ".hypothesis", ".coverage*"
    )
    shutil.copytree(ROOT, checkout, ignore=left)
    _build(checkout, "--sdist", folder / "sdist")
    (archive,) = (folder / "sdist").glob("*.tar.gz")
    built = []
    for number in (1, 2):
        with tarfile.open(archive) as file:
            file.extractall(folder / f"unpacked-{number}", filter="data")
        (source,) = (folder / f"unpacked-{number}").iterdir()
        if number == 2:
            for path in source.rglob("*"):
                os.utime(path)
        _build(source, "--wheel", folder / f"wheel-{number}")
        built += (folder / f"wheel-{number}").glob("*.whl")
    return built


def _build(source: Path, what: str, out: Path) -> None:
    command = [sys.executable, "-m", "build", "--no-isolation", what, "--outdir", str(out), str(source)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": "1764115200", "GIT_CEILING_DIRECTORIES": str(source.parent)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_wheel_can_be_built_again(wheels: list[Path]):
    first, second = (hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels)
    assert first == second


@pytest.mark.slow
def test_the_wheel_holds_models_types_and_licences(wheels: list[Path]):
    with zipfile.ZipFile(wheels[0]) as wheel:
        names = set(wheel.namelist())
    assert "biorerank_plugins/py.typed" in names
    for package in ("rankers", "retrievers", "embedders"):
        assert f"haystack_integrations/components/{package}/biorerank/py.typed" in names
    for name in models.names():
        for file in ("model.safetensors", "tokenizer.json", "config.json", "biorerank.json", "LICENSE", "README.md"):
            assert f"biorerank_plugins/models/{name}/{file}" in names
    info = f"biorerank_plugins-{__version__}.dist-info"
    assert f"{info}/licenses/LICENSE" in names
    assert {name.split("/")[0] for name in names} == {*IN_THE_WHEEL, info}
    assert not any("__pycache__" in name or name.endswith(".pyc") for name in names)
