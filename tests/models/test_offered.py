"""Models of other distributions: found by the name of an entry point, wherever a model can be named."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from biorerank_plugins import BiEncoder, BioReranker, models
from biorerank_plugins.errors import ModelError
from biorerank_plugins.models.folders import is_installed, offered_names, portable_name, resolve_folder

TEXTS = ["p53 suppresses tumours.", "aspirin inhibits platelets.", ""]


class Site:
    """A folder with distributions that were never built: their metadata, as pip writes it, and their code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def install(self, distribution: str, entry_points: str, **code: str) -> None:
        info = self.folder / f"{distribution.replace('-', '_')}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[biorerank_plugins.models]\n{entry_points}\n")
        for module, text in code.items():
            (self.folder / f"{module}.py").write_text(text)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    folder = tmp_path / "site"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)
    return Site(folder)


def test_a_package_offers_its_own_folder(site: Site, tiny_cross_encoder_dir: Path):
    shutil.copytree(tiny_cross_encoder_dir, site.folder / "offered_a")
    (site.folder / "offered_a" / "__init__.py").write_text("")
    site.install("offers-a", "tiny-reranker = offered_a")
    found = BioReranker("tiny-reranker", device="cpu").rank("does p53 suppress tumours?", TEXTS)
    expected = BioReranker(tiny_cross_encoder_dir, device="cpu").rank("does p53 suppress tumours?", TEXTS)
    assert [line.logit for line in found] == [line.logit for line in expected]
    assert offered_names() == ["tiny-reranker"]


def test_a_module_offers_a_path_and_what_is_stored_there_counts(
    site: Site, tiny_encoder_dir: Path, tiny_cross_encoder_dir: Path, tmp_path: Path
):
    folder = Path(shutil.copytree(tiny_cross_encoder_dir, tmp_path / "model"))
    (folder / "biorerank.json").write_text('{"calibration": {"slope": 0.5, "intercept": -1.0}}')
    code = f"from pathlib import Path\nENCODER = {str(tiny_encoder_dir)!r}\nRERANKER = Path({str(folder)!r})\n"
    points = "stored-encoder = offered_b:ENCODER\nstored-reranker = offered_b:RERANKER"
    site.install("offers-b", points, offered_b=code)
    assert BioReranker("stored-reranker", device="cpu").calibration.slope == 0.5
    encoder = BiEncoder("stored-encoder", device="cpu")
    assert encoder.config()["model"] == "stored-encoder"  # an index finds it again by its name, on any machine
    assert (encoder.encode_queries(["p53"]) == BiEncoder(tiny_encoder_dir, device="cpu").encode_queries(["p53"])).all()


def test_an_installed_model_goes_before_a_folder_of_the_working_directory(
    site: Site, tiny_cross_encoder_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    site.install("offers-c", "twice = offered_c:FOLDER", offered_c=f"FOLDER = {str(tiny_cross_encoder_dir)!r}")
    here = Path(shutil.copytree(tiny_cross_encoder_dir, tmp_path / "work" / "twice"))
    monkeypatch.chdir(here.parent)
    assert resolve_folder("twice") == tiny_cross_encoder_dir
    assert resolve_folder("./twice") == Path("twice")
    assert (portable_name("twice"), portable_name("./twice")) == ("twice", str(here))
    assert is_installed("twice") and is_installed(models.DEFAULT_RERANKER) and not is_installed("./twice")


def test_nobody_takes_the_name_of_an_embedded_model(site: Site):
    site.install("offers-d", f"{models.DEFAULT_RERANKER} = offered_d:FOLDER", offered_d="raise RuntimeError")
    assert resolve_folder(models.DEFAULT_RERANKER) == models.path(models.DEFAULT_RERANKER)


@pytest.mark.parametrize(
    ("value", "code", "said"),
    [
        ("offered_gone:FOLDER", None, "cannot be imported: ModuleNotFoundError: No module named 'offered_gone'"),
        ("offered_e1:FOLDER", "OTHER = 1", "cannot be imported: AttributeError"),
        ("offered_e2:FOLDER", "raise OSError('no weights here')", "cannot be imported: OSError: no weights here"),
        ("offered_e3:FOLDER", "FOLDER = 3", "is neither a package nor the path of a folder"),
        ("offered_e4", "", "is neither a package nor the path of a folder"),
        ("offered_e5:FOLDER", "FOLDER = '/nowhere'", "is no model folder: /nowhere holds no config.json"),
    ],
)
def test_what_is_wrong_with_an_offer_is_said_with_who_makes_it(site: Site, value: str, code: str | None, said: str):
    module = value.partition(":")[0]
    site.install("offers-e", f"broken = {value}", **({} if code is None else {module: code}))
    with pytest.raises(ModelError, match="'broken', which the package offers-e offers as") as caught:
        BioReranker("broken")
    assert said in str(caught.value)


def test_two_offers_of_one_name_are_named(site: Site):
    site.install("offers-f", "same = offered_f:FOLDER")
    site.install("offers-g", "same = offered_g:FOLDER")
    with pytest.raises(ModelError, match=r"offers-f \(offered_f:FOLDER\) and the package offers-g"):
        BioReranker("same")


def test_an_unknown_name_lists_what_is_offered(site: Site):
    site.install("offers-h", "known = offered_h:FOLDER")
    with pytest.raises(ModelError, match=r"no model 'unknown'.*Offered by packages: known\."):
        BioReranker("unknown")
