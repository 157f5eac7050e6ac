"""Look and behaviour of the report, in one place; nothing is fetched from anywhere."""

STYLE = """
:root { color-scheme: light dark;
  --page: #ffffff; --ink: #1b1f24; --quiet: #57606a; --line: #d0d7de; --panel: #f6f8fa; --link: #0550ae;
  --holds: #116329; --part: #0a5a8a; --fails: #a40e26; --bounded: #5a32a3; --open: #7d4e00; --none: #57606a; }
@media (prefers-color-scheme: dark) { :root {
  --page: #12161b; --ink: #e6edf3; --quiet: #9aa6b2; --line: #39424c; --panel: #1b2129; --link: #79b8ff;
  --holds: #5fd07f; --part: #6cc4f5; --fails: #ff8f8f; --bounded: #c9a6ff; --open: #f0b860; --none: #aab4be; } }
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; }
body { margin: 0; background: var(--page); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif;
  overflow-wrap: break-word; }
header, main, footer { max-width: 70rem; margin: 0 auto; padding: 0 1rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 1.5rem 0 .5rem; }
h2 { font-size: 1.3rem; margin: 2.5rem 0 .5rem; border-bottom: 1px solid var(--line); padding-bottom: .25rem; }
h3 { font-size: 1.05rem; margin: 0 0 .35rem; }
h4 { font-size: .95rem; margin: 1rem 0 .25rem; }
p { margin: .4rem 0; }
a { color: var(--link); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
code { font-size: .88em; overflow-wrap: anywhere; }
.quiet, figcaption, .rule { color: var(--quiet); font-size: .88rem; }
.quick { border: 2px solid var(--fails); padding: .5rem .75rem; font-weight: 600; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: .9rem; }
caption { text-align: left; color: var(--quiet); padding: .25rem 0; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line); }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
#verdicts table { width: 100%; }
.badge { display: inline-block; border: 1.5px solid currentColor; border-radius: .8rem; padding: 0 .55rem;
  font-size: .85rem; font-weight: 600; white-space: nowrap; }
.holds { color: var(--holds); } .part { color: var(--part); } .fails { color: var(--fails); }
.bounded { color: var(--bounded); } .open { color: var(--open); } .none { color: var(--none); }
.scope { display: block; font-size: .82rem; color: var(--quiet); }
.links { list-style: none; margin: 0; padding: 0; font-size: .85rem; white-space: nowrap; }
.filters { display: flex; flex-wrap: wrap; gap: .5rem 1.25rem; align-items: end; margin: 1rem 0; padding: .75rem;
  background: var(--panel); border: 1px solid var(--line); border-radius: .4rem; }
.filters label { display: grid; gap: .15rem; font-size: .85rem; min-width: 0; max-width: 100%; }
select { font: inherit; color: inherit; background: var(--page); border: 1px solid var(--quiet); border-radius: .3rem;
  padding: .25rem .4rem; width: 100%; min-width: 0; }
article { border: 1px solid var(--line); border-radius: .4rem; padding: .9rem 1rem; margin: 1rem 0; }
[hidden] { display: none !important; }
figure { margin: 1rem 0 0; }
img { max-width: 100%; height: auto; background: #ffffff; border: 1px solid var(--line); padding: .25rem; }
details > summary { cursor: pointer; color: var(--link); }
dl.plain { display: grid; grid-template-columns: max-content 1fr; gap: .15rem .9rem; margin: .4rem 0; }
dl.plain dt { color: var(--quiet); } dl.plain dd { margin: 0; min-width: 0; }
#provenance td { min-width: 5rem; }
#provenance td:nth-of-type(1), #provenance td:nth-of-type(6) { min-width: 13rem; }
svg.interval { display: block; width: 11rem; height: 1.1rem; }
svg.interval .bound { stroke: var(--ink); stroke-dasharray: 3 2; }
svg.interval .axis { stroke: var(--line); }
svg.interval .span { stroke: currentColor; stroke-width: 2.5; }
svg.interval .dot { fill: currentColor; }
@media (max-width: 40rem) {
  h1 { font-size: 1.4rem; } article { padding: .7rem; }
  .wide { display: none; }
  .scroll table { font-size: .8rem; } .scroll th, .scroll td { padding-right: .45rem; }
  .badge { font-size: .78rem; padding: 0 .4rem; }
  dl.plain { grid-template-columns: 1fr; gap: 0; } dl.plain dd { margin: 0 0 .35rem; }
}
"""

SCRIPT = """
(function () {
  "use strict";
  var paper = document.getElementById("by-paper"), verdict = document.getElementById("by-verdict");
  var shown = document.getElementById("shown");
  var claims = Array.from(document.querySelectorAll("[data-verdict]"));
  var listed = claims.filter(function (one) { return one.tagName === "TR"; }).length;
  function choose() {
    var count = 0;
    claims.forEach(function (one) {
      var fits = (!paper.value || one.dataset.paper === paper.value) &&
        (!verdict.value || one.dataset.verdict === verdict.value);
      one.hidden = !fits;
      if (fits && one.tagName === "TR") { count += 1; }
    });
    shown.textContent = "Showing " + count + " of " + listed + " claims.";
  }
  paper.addEventListener("change", choose);
  verdict.addEventListener("change", choose);
  document.getElementById("filters").addEventListener("reset", function () { setTimeout(choose); });
  document.getElementById("filters").hidden = false;
  choose();
  // The committed copy lies one folder deeper, beside the committed results.
  if (location.pathname.indexOf("/figures/reference/") >= 0) {
    document.querySelectorAll("a[data-committed]").forEach(function (link) { link.href = link.dataset.committed; });
  }
})();
"""
