"""The claims report: everything in it, nothing fetched, and the discrepancies beside it."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest
import yaml

from analysis import claims, paths
from analysis.profiles import run_context
from analysis.verdicts import cases, decide, reading
from analysis.verdicts.decide import NONE, VERDICTS
from analysis.verdicts.rules import RuleError
from tests.analysis import claims_world as world
from tests.analysis.judging import BASE, IDS, verdicts, written


class Page(HTMLParser):
    """Tags of a page, and what it would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids, self.fetched, self.links, self.images, self.open = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.ids += [found["id"]] if "id" in found else []
        if tag == "a":
            self.links.append(found)
        if tag == "img":
            self.images.append(found)
        self.fetched += [found[name] for name in ("src", "srcset", "data", "poster") if found.get(name)]
        self.fetched += [found["href"]] if tag == "link" else []
        if tag not in ("meta", "link", "img", "line", "circle"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in ("line", "circle"):
            assert self.open.pop() == tag


@pytest.fixture
def page(full) -> Page:
    claims.write(claims.report(run_context()))
    return Page((paths.FIGURES / "mini" / "report.html").read_text())


def test_the_report_holds_every_claim_and_fetches_nothing(page):
    assert set(IDS) <= set(page.ids) and len(page.ids) == len(set(page.ids)) and page.open == []
    assert page.fetched and all(address.startswith("data:") for address in page.fetched)
    assert {link["href"][1:] for link in page.links if link["href"].startswith("#")} <= set(page.ids)
    assert not [link for link in page.links if "//" in link["href"] and not link["href"].startswith("https://arxiv.org/")]
    text = (paths.FIGURES / "mini" / "report.html").read_text()
    assert not re.search(r"@import|url\(|<script src|fetch\(|XMLHttpRequest", text)


def test_every_drawing_of_a_claim_is_in_the_report(page):
    shown = [image["alt"].split()[1].rstrip(",") for image in page.images]
    assert set(shown) == set(world.FIGURES)
    assert all(image["src"].startswith("data:image/png;base64,") for image in page.images)


def test_links_lead_to_files_from_the_report_and_from_its_committed_copy(page):
    names = [link for link in page.links if not link["href"].startswith(("#", "https:"))]
    assert names
    for link in names:
        assert (paths.FIGURES / "mini" / link["href"]).resolve().is_file()
        kept = (paths.REFERENCE_FIGURES / "mini" / link["data-committed"]).resolve()
        assert kept.is_relative_to(paths.RESULTS) or kept.is_file()


def test_the_report_says_what_it_does_not_know(furnished):
    claims.write(claims.report(run_context()))
    text = (paths.FIGURES / "mini" / "report.html").read_text()
    assert "No result is there." in text and "no result rivals of this run: run ./reproduce.sh" in text
    assert Page(text).images  # drawings of before are shown all the same


def test_text_is_escaped(full):
    where = {"method": "redvtp", "keep": 0.5}
    written(paths.PAPERS, {"mini": [BASE | {"where": where, "each": ["model", "family"]}]}, says="<b>&\"bold\"</b>")
    claims.write(claims.report(run_context()))
    text = (paths.FIGURES / "mini" / "report.html").read_text()
    assert "<b>" not in text and "&lt;b&gt;&amp;&quot;bold&quot;&lt;/b&gt;" in text


def test_json_and_markdown_say_the_same(full, capsys):
    assert claims.main([]) == 0
    folder = paths.FIGURES / "mini"
    content = json.loads((folder / "claims.json").read_text())
    assert [one["id"] for one in content["claims"]] == IDS
    assert {one["verdict"] for one in content["claims"]} <= set(VERDICTS)
    text, said = (folder / "claims.md").read_text(), capsys.readouterr().out
    for one in content["claims"]:
        assert f"## {one['id']}: {one['says']}" in text and f"| {one['id']}" in said
    assert "figures/mini/report.html" in said
    first = {path.name: path.read_bytes() for path in folder.glob("*")}
    claims.main([])
    assert first == {path.name: path.read_bytes() for path in folder.glob("*")}


def test_a_verdict_other_than_the_committed_is_told(full):
    claims.main([])
    kept = paths.REFERENCE_FIGURES / "mini" / "claims.json"
    kept.parent.mkdir(parents=True)
    kept.write_bytes((paths.FIGURES / "mini" / "claims.json").read_bytes())
    assert "Other than committed" not in claims.sentence(claims.report(run_context()))
    (paths.RUNS / "mini" / "layer_attention.json").unlink()
    (paths.RUNS / "paper" / "layer_attention.json").unlink()
    assert "Other than committed: F1 (committed: holds)." in claims.sentence(claims.report(run_context()))


def test_a_quick_run_is_marked_and_takes_its_own_results(full):
    claims.main(["--quick"])
    text = (paths.FIGURES / "mini-quick" / "report.html").read_text()
    assert "Quick run, n = 16: not for quoting." in text
    assert {one.verdict for one in claims.report(run_context(mode="quick")).decided if one.claim.id == "F2"} == {NONE}


def test_committed_results_are_judged_from_where_they_are(full):
    assert {one.verdict for one in verdicts("reference").values()} == {NONE}
    (paths.RESULTS / "mini").mkdir(parents=True)
    (paths.RUNS / "mini" / "compute.json").rename(paths.RESULTS / "mini" / "compute.json")
    assert verdicts("reference")["F2"].verdict == decide.HOLDS
    assert verdicts()["F2"].verdict == NONE  # a run judges what it measured


def test_discrepancies_are_measured_or_say_why_not(full):
    found = claims.report(run_context()).discrepancies
    told = {one.id: numbers for one, numbers in found}
    assert told["X3"][0].cases and told["X3"][0].cases[0].outcome == cases.KNOWN
    for one, numbers in found:
        assert one.sources and (numbers or one.later)
        assert set(one.claims) <= set(IDS)


def test_a_discrepancy_must_be_measured_or_say_why_not(tmp_path):
    entry = {"id": "X9", "about": "a", "paper": "b", "code": "c", "behaviour": "d", "sources": ["e"]}
    path = tmp_path / "discrepancies.yaml"
    path.write_text(yaml.safe_dump({"discrepancies": [entry]}))
    with pytest.raises(RuleError, match="discrepancy X9: neither measured, nor"):
        reading.read_discrepancies(path)
