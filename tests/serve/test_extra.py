"""The server's libraries are an extra: nothing else imports them, and what needs them says how to install them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from biorerank_plugins._common.versions import install_line

BLOCKED = """
import importlib.abc, sys
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
from biorerank_plugins.errors import MissingExtraError
try:
    {code}
except MissingExtraError as error:
    print(error)
"""


@pytest.mark.parametrize(
    ("missing", "code"),
    [
        ("fastapi", "from biorerank_plugins.serve import create_app"),
        ("uvicorn", "from biorerank_plugins.serve import Server"),
        ("prometheus_client", "from biorerank_plugins.serve import create_app"),
        (
            "httpx",
            "from biorerank_plugins.scoring.remote import RemoteScorer; RemoteScorer('http://localhost:1')",
        ),
    ],
)
def test_what_is_missing_is_named_with_the_pip_line(missing: str, code: str):
    if missing != "fastapi":
        pytest.importorskip("fastapi")
    if missing == "prometheus_client":
        pytest.importorskip("uvicorn")
    program = BLOCKED.format(blocked=(missing,), code=code)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"This needs the package '{missing}")
    assert done.stdout.strip().endswith(install_line("serve"))


def test_the_rest_of_the_package_imports_none_of_it():
    code = (
        "import sys, biorerank_plugins, biorerank_plugins.cli, biorerank_plugins.scoring.remote, "
        "biorerank_plugins.serve\n"
        "print([name for name in ('fastapi', 'uvicorn', 'prometheus_client', 'httpx') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"
