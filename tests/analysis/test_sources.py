from __future__ import annotations

import pytest

from analysis import sources


@pytest.fixture
def modules(project):
    """Writes source files below the project and returns a closure of `analysis.tiny`."""

    def write(files: dict[str, str]) -> list[str]:
        for name, text in files.items():
            path = (project / name).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return list(sources.closure(["analysis.tiny"]))

    return write


def test_follows_imports_of_the_project_alone(modules):
    assert modules({"analysis/tiny": "import os, numpy\nimport redvtp.helper\n"}) == [
        "analysis", "analysis.tiny", "redvtp", "redvtp.helper"
    ]


@pytest.mark.parametrize(
    "code",
    [
        "from redvtp import helper",
        "def late():\n    from redvtp.helper import FACTOR",
        "LAZY = {'FACTOR': 'redvtp.helper'}",
        "from .between import thing",
        "from . import between",
    ],
    ids=["from", "inside a function", "by name", "relative module", "relative name"],
)
def test_finds_every_form_of_import(modules, code):
    found = modules({"analysis/between": "import redvtp.helper", "analysis/tiny": code})
    assert "redvtp.helper" in found


def test_relative_imports_inside_a_package_start_there(modules):
    found = modules(
        {
            "analysis/tiny": "import redvtp.methods",
            "redvtp/methods/__init__": "from . import one\nfrom ..helper import FACTOR",
            "redvtp/methods/one": "",
        }
    )
    assert {"redvtp.methods", "redvtp.methods.one", "redvtp.helper"} <= set(found)


def test_circular_imports_end(modules):
    files = {"analysis/tiny": "import redvtp.helper", "redvtp/helper": "import analysis.tiny"}
    assert "redvtp.helper" in modules(files)


def test_plumbing_does_not_count(modules, project):
    modules({"analysis/tiny": "from analysis import plots", "analysis/plots": "COLOR = 1"})
    before = sources.sources_hash(["analysis.tiny"])
    (project / "analysis" / "plots.py").write_text("COLOR = 2")
    assert sources.sources_hash(["analysis.tiny"]) == before
    assert "analysis.plots" in sources.closure(["analysis.tiny"])


def test_every_name_of_plumbing_is_a_module():
    assert all(sources.module_file(name) for name in sources.PLUMBING)
