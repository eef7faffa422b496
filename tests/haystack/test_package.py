"""How the components are found: two ways to import, beside other integrations, and without Haystack."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module

import pytest
from haystack.core.component import Component

import biorerank_plugins.haystack as short
from biorerank_plugins._common.versions import install_line

HOMES = {
    "BioRanker": "haystack_integrations.components.rankers.biorerank",
    "BioRetriever": "haystack_integrations.components.retrievers.biorerank",
    "BioTextEmbedder": "haystack_integrations.components.embedders.biorerank",
    "BioDocumentEmbedder": "haystack_integrations.components.embedders.biorerank",
}


@pytest.mark.parametrize("name", HOMES)
def test_both_ways_lead_to_the_same_class(name):
    kind = getattr(import_module(HOMES[name]), name)
    assert kind is getattr(short, name)
    # What a saved pipeline names, and what Haystack trusts.
    assert kind.__module__.startswith(HOMES[name] + ".")
    assert issubclass(kind, Component)


def test_names():
    assert sorted(HOMES) == dir(short) == sorted(short.__all__)
    with pytest.raises(AttributeError, match="Nothing"):
        _ = short.Nothing


def test_the_namespace_is_shared_with_other_integrations():
    for kind in ("rankers", "embedders"):
        import_module(f"haystack_integrations.components.{kind}.sentence_transformers")
        import_module(f"haystack_integrations.components.{kind}.biorerank")
    for name in (
        "haystack_integrations",
        "haystack_integrations.components",
        "haystack_integrations.components.rankers",
    ):
        assert getattr(sys.modules[name], "__file__", None) is None  # no __init__.py that would hide the others


@pytest.mark.parametrize("module", ["biorerank_plugins.haystack", HOMES["BioRanker"], HOMES["BioRetriever"]])
def test_without_haystack_the_error_says_what_to_install(module):
    code = f"import sys; sys.modules['haystack'] = None\nfrom {module} import *"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "MissingExtraError" in result.stderr.splitlines()[-1]
    assert install_line("haystack") in result.stderr


def test_our_package_alone_does_not_load_haystack():
    code = "import biorerank_plugins, biorerank_plugins.haystack, sys; assert 'haystack' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
