"""The README's tables are those of the committed results, and what it links to is there."""

from __future__ import annotations

import re

import pytest

from analysis import paths, readme, registry

TEXT = readme.README.read_text(encoding="utf-8")


def test_tables_are_those_of_the_committed_results():
    assert readme.updated(TEXT) == TEXT, "run: python -m analysis.readme"


def test_a_table_without_its_comments_is_named():
    with pytest.raises(ValueError, match="<!-- accuracy -->"):
        readme.updated(TEXT.replace("<!-- /accuracy -->", ""))


def test_links_lead_to_files():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXT) if not link.startswith("http")]
    assert [link for link in links if not (paths.ROOT / link).exists()] == []


def test_every_notebook_is_listed():
    assert [one.name for one in registry.NOTEBOOKS if f"| `{one.name}` |" not in TEXT] == []
