"""report.html: one file that needs nothing else, with every claim, its numbers, figures and sources."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from analysis import plots
from analysis.verdicts import embedded, texts
from analysis.verdicts.decide import BOUNDED, FAILS, HOLDS, MEANINGS, NONE, OPEN, PART, SCOPES, VERDICTS, Decided
from analysis.verdicts.evidence import SOURCES, Found, drawings
from analysis.verdicts.markup import Markup, join, tag
from analysis.verdicts.numbers import checked, source_links
from analysis.verdicts.report import Report
from analysis.verdicts.style import SCRIPT, STYLE

CLASSES = {HOLDS: "holds", PART: "part", FAILS: "fails", BOUNDED: "bounded", OPEN: "open", NONE: "none"}
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
"""Says to the browser that this page fetches nothing."""


def page(found: Report) -> str:
    """The whole file."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("link", rel="icon", href="data:,"),
        tag("title", "Claims of the papers: verdicts"),
        tag("style", Markup(STYLE)),
    )
    body = tag("body", tag("header", _head(found)), tag("main", _sections(found)), tag("script", Markup(SCRIPT)))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def _head(found: Report) -> Iterator[Markup]:
    run = found.run
    yield tag("h1", "Claims of the papers: verdicts")
    if run.quick:
        yield tag("p", f"Quick run, n = {run.n}: not for quoting.", class_="quick")
    yield tag("p", texts.sentence(found, {}))
    yield tag(
        "p", "Every verdict follows from a rule (", tag("code", "data/papers/claims.yaml"),
        "), written before its measurement was run unless a note says otherwise, and from the results named beside "
        "it, by ",
        tag("code", "python -m analysis.claims"), ". Evidence is of four kinds: ",
        "; ".join(f"{plots.LINKS[link]}" for link in ("mini", "flops", "speed", "paper")), ".", class_="quiet",
    )  # fmt: skip
    jumps = (("verdicts", "Verdicts"), ("claims", "Claims"), ("undecided", "Not decided, and why"),
             ("discrepancies", "Papers, code and behaviour"), ("provenance", "Provenance"))
    yield tag("nav", tag("p", _between(" · ", [tag("a", text, href=f"#{name}") for name, text in jumps])),
              aria_label="Sections")  # fmt: skip


def _between(mark: str, parts: list[Markup]) -> list[str]:
    return [piece for part in parts for piece in (part, mark)][:-1]


def _sections(found: Report) -> Iterator[Markup]:
    yield _section("verdicts", "Verdicts", [_filters(found), _verdicts(found), _meanings()])
    yield _section("claims", "Claims", [_claim(one, found) for one in found.decided])
    yield _section("undecided", "Not decided, and why", _undecided(found))
    yield _section("discrepancies", "Where papers, released code and behaviour disagree", _discrepancies(found))
    yield _section("provenance", "Provenance of the results", _provenance(found))


def _section(name: str, title: str, content) -> Markup:
    return tag("section", tag("h2", title, id=f"{name}-title"), content, id=name, aria_labelledby=f"{name}-title")


def badge(verdict: str) -> Markup:
    """A verdict, coloured; the word says it as well."""
    return tag("span", verdict, class_=f"badge {CLASSES[verdict]}")


def _stated(one: Decided) -> Markup:
    """The verdict with what it stands on."""
    scope = "the FLOPs allow it" if one.verdict == BOUNDED else one.scope
    return join([badge(one.verdict), tag("span", scope, class_="scope") if scope else None])


def _filters(found: Report) -> Markup:
    papers = [tag("option", "all papers", value="")]
    papers += [tag("option", paper.title, value=paper.key) for paper in found.papers]
    verdicts = [tag("option", "all verdicts", value="")]
    verdicts += [tag("option", f"{name} ({count})", value=CLASSES[name]) for name, count in found.counts.items()]
    return tag(
        "form",
        tag("label", "Paper", tag("select", papers, id="by-paper")),
        tag("label", "Verdict", tag("select", verdicts, id="by-verdict")),
        tag("button", "Show all", type="reset"),
        tag("span", id="shown", role="status"),
        id="filters", class_="filters", hidden=True,
    )  # fmt: skip


def _marks(one: Decided) -> dict[str, str]:
    return {"data-paper": one.claim.paper, "data-verdict": CLASSES[one.verdict]}


def _verdicts(found: Report) -> Markup:
    rows = [
        tag(
            "tr",
            tag("th", tag("a", one.claim.id, href=f"#{one.claim.id}"), scope="row"),
            tag("td", one.claim.says),
            tag("td", _stated(one)),
            tag("td", tag("ul", [tag("li", f"{part.link}: {part.verdict}") for part in one.evidence], class_="links"),
                class_="wide"),
            **_marks(one),
        )
        for one in found.decided
    ]  # fmt: skip
    head = tag("tr", tag("th", "Claim", scope="col"), tag("th", "What it says", scope="col"),
               tag("th", "Verdict", scope="col"), tag("th", "Evidence", scope="col", class_="wide"))  # fmt: skip
    return tag("table", tag("thead", head), tag("tbody", rows))


def _meanings() -> Markup:
    listed = [[tag("dt", badge(verdict)), tag("dd", MEANINGS[verdict])] for verdict in VERDICTS]
    words = (
        "A case holds where its whole 95% interval lies on the claim's side of the bound. Intervals of means and "
        "differences are combined by their ends, so they are never too narrow. A claim needs its evidence of kinds "
        "mini and flops; times on the true shapes count where they are there; published checkpoints decide alone. Each "
        "case's interval is its own: it is not widened for their number."
    )
    inner = [tag("dl", listed, class_="plain"), tag("p", words)]
    return tag("details", tag("summary", "What the verdicts mean"), inner)


def _claim(one: Decided, found: Report) -> Markup:
    claim, run = one.claim, found.run
    facts = [("Paper", [_cited(found.title(claim.paper)), f", {claim.where}"])]
    facts += [("It reports", texts.expected(claim))] if texts.expected(claim) else []
    facts += [("Note", claim.remark)] if claim.remark else []
    figures = drawings(claim.figures, run)
    return tag(
        "article",
        tag("h3", f"{claim.id}: {claim.says}"),
        tag("p", _stated(one)),
        tag("p", f"{one.reason}."),
        tag("dl", [[tag("dt", name), tag("dd", text)] for name, text in facts], class_="plain"),
        [
            [tag("h4", f"Evidence: {part.link}, {SCOPES[part.link]} ", badge(part.verdict)),
             [checked(check, run) for check in part.checks]]
            for part in one.evidence
        ],
        [_figure(path) for path in figures],
        id=claim.id, **_marks(one),
    )  # fmt: skip


def _cited(title: str) -> Markup:
    """A paper's title, linked where it holds an arXiv number."""
    number = re.search(r"arXiv (\d{4}\.\d{5})", title)
    return tag("a", title, href=f"https://arxiv.org/abs/{number[1]}") if number else join(title)


def _figure(path: Path) -> Markup:
    return tag(
        "figure",
        tag("img", src=embedded.data_uri(path), alt=f"Figure {path.stem}, drawn from the results named above"),
        tag("figcaption", path.name),
    )


def _undecided(found: Report) -> Markup:
    rows = [
        tag("tr", tag("th", tag("a", one.claim.id, href=f"#{one.claim.id}"), scope="row"),
            tag("td", badge(one.verdict)),
            tag("td", [tag("p", f"{part.link}: {part.reason}.") for part in one.evidence
                       if part.verdict in (NONE, OPEN, BOUNDED)]))
        for one in found.decided
        if one.verdict in (NONE, OPEN, BOUNDED)
    ]  # fmt: skip
    if not rows:
        return tag("p", "Every claim has a verdict from evidence.")
    head = tag("tr", *(tag("th", text, scope="col") for text in ("Claim", "Verdict", "Why")))
    return tag("table", tag("thead", head), tag("tbody", rows))


def _discrepancies(found: Report) -> Iterator[Markup]:
    yield tag(
        "p", "What the papers say, what their released code says, and what that code does when it is run; with the "
        "difference in numbers where it can be measured here. official_code is this project's reading of the code; "
        "RV is Blacktower27/RedVTP-LLaDA-V at 1d1d09b, RL is Blacktower27/RedVTP-LaViDa at 9809edf.",
        class_="quiet",
    )  # fmt: skip
    for one, numbers in found.discrepancies:
        touched = [tag("a", name, href=f"#{name}") for name in one.claims]
        facts = [("Paper", one.paper), ("Released code", one.code), ("When it is run", one.behaviour),
                 ("Sources", "; ".join(one.sources))]  # fmt: skip
        facts += [("Touches", _between(", ", touched))] if touched else []
        facts += [("Not measured", one.later)] if one.later else []
        yield tag(
            "article",
            tag("h3", f"{one.id}: {one.about}"),
            tag("dl", [[tag("dt", name), tag("dd", text)] for name, text in facts], class_="plain"),
            [checked(check, found.run) for check in numbers],
            id=one.id,
        )


def _provenance(found: Report) -> Markup:
    names = ("Result", "What", "Evidence", "n", "Seeds", "Commit", "Versions", "Device", "Computed in", "File")
    head = tag("tr", *(tag("th", name, scope="col") for name in names))
    rows = [_provenance_row(one, found) for one in found.results()]
    if not rows:
        return tag("p", "No result is there.")
    table = tag("table", tag("thead", head), tag("tbody", rows))
    return tag("div", table, class_="scroll", tabindex=0, role="region", aria_label="Provenance of the results")


def _provenance_row(one: Found, found: Report) -> Markup:
    about = one.result.provenance
    versions = ", ".join(f"{name} {number}" for name, number in (about.get("versions") or {}).items() if number)
    commit = (about.get("commit") or "none")[:10] + (" with uncommitted changes" if about.get("dirty") else "")
    threads = f", {about['threads']} threads" if about.get("threads") else ""
    size = (about.get("n"), ", ".join(map(str, about.get("seeds", ()))))
    cells = (
        SOURCES[one.name].told, f"{about['link']}, profile {one.profile}",
        *(("-", "-") if about["link"] == "flops" else size),
        commit, versions, f"{about.get('device')}{threads}", f"{about.get('seconds')} s",
    )  # fmt: skip
    name = tag("th", one.name, scope="row", id=f"result-{one.profile}-{one.name}")
    return tag("tr", name, *(tag("td", str(cell)) for cell in cells), tag("td", source_links(one, found.run)))
