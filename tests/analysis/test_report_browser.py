"""The report in headless Chromium: no error in its console, filters that work, images that show, a phone's width."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess

import pytest

from analysis import claims, paths
from analysis.profiles import run_context
from tests.analysis import claims_world as world

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
DESKTOP, PHONE = (1280, 900), (390, 844)

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason=f"no browser: none of {', '.join(NAMES)} is installed")

LISTEN = """<script>
  window.said = [];
  window.addEventListener("error", function (event) { window.said.push("error: " + event.message); });
  document.addEventListener("securitypolicyviolation", function (event) { window.said.push(event.blockedURI); });
  ["error", "warn"].forEach(function (kind) {
    console[kind] = function () { window.said.push(kind + ": " + Array.from(arguments).join(" ")); };
  });
</script>"""

LOOK = """<script>
  window.addEventListener("load", function () {
    function seen() {
      function rows(name) {
        return Array.from(document.querySelectorAll(name + "[data-verdict]")).filter(function (one) {
          return one.offsetParent !== null || one.getClientRects().length > 0;
        }).map(function (one) { return one.id || one.querySelector("a").textContent; });
      }
      return {table: rows("tr"), articles: rows("article"), says: document.getElementById("shown").textContent};
    }
    function chosen(id, value) {
      var select = document.getElementById(id);
      select.value = value;
      select.dispatchEvent(new Event("change"));
      return seen();
    }
    function options(id) {
      return Array.from(document.getElementById(id).options).map(function (one) { return one.value; });
    }
    var found = {all: seen(), paper: {}, verdict: {}, both: {}};
    options("by-paper").forEach(function (value) { found.paper[value] = chosen("by-paper", value); });
    chosen("by-paper", "");
    options("by-verdict").forEach(function (value) { found.verdict[value] = chosen("by-verdict", value); });
    found.both = chosen("by-paper", "redvtp") && chosen("by-verdict", "bounded");
    document.getElementById("filters").reset();
    setTimeout(function () {
      found.reset = seen();
      found.images = Array.from(document.images).map(function (one) { return [one.naturalWidth, one.width]; });
      found.screen = [innerWidth, document.documentElement.scrollWidth];
      found.outside = Array.from(document.querySelectorAll("body *")).filter(function (one) {
        return !one.closest(".scroll") && one.getBoundingClientRect().right > innerWidth + 1;
      }).map(function (one) { return one.outerHTML.slice(0, 80); });
      found.letters = Array.from(document.querySelectorAll("p, td, dd, li, figcaption")).map(function (one) {
        return parseFloat(getComputedStyle(one).fontSize);
      });
      found.links = Array.from(document.querySelectorAll("a[data-committed]")).map(function (one) { return one.href; });
      found.said = window.said;
      parent.postMessage(JSON.stringify(found), "*");
    });
  });
</script>"""

FRAME = """<!doctype html><meta charset="utf-8"><body style="margin:0"><script>
  window.addEventListener("message", function (event) {
    var note = document.createElement("pre");
    note.id = "found-by-test";
    note.textContent = event.data;
    document.body.append(note);
  });
</script><iframe src="watched.html" style="border:0;width:%dpx;height:%dpx"></iframe></body>"""
"""A frame, for a window of a browser without screen is not narrower than 500 pixels."""


@pytest.fixture
def report(project):
    """Written from made-up results of every verdict."""
    world.furnish()
    world.write_results(("mini",))
    (paths.RUNS / "mini" / "layer_grid.json").unlink()
    claims.write(claims.report(run_context()))
    return paths.FIGURES / "mini" / "report.html"


def looked_at(path, size: tuple[int, int], profile) -> dict:
    """What a browser of this size finds in a page."""
    text = path.read_text()
    assert text.count("<head>") == text.count("</body>") == 1
    watched = path.with_name("watched.html")
    watched.write_text(text.replace("<head>", f"<head>{LISTEN}").replace("</body>", f"{LOOK}</body>"))
    framed = path.with_name("framed.html")
    framed.write_text(FRAME % size)
    command = [
        CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--hide-scrollbars", "--enable-logging=stderr", f"--user-data-dir={profile}",
        "--virtual-time-budget=5000", "--dump-dom", framed.as_uri(),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    note = re.search(r'<pre id="found-by-test">(.*?)</pre>', done.stdout, re.DOTALL)
    assert note, done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(note[1])) | {"console": console}


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_report_works_in_a_browser(report, tmp_path, size):
    found = looked_at(report, size, tmp_path / "browser")
    assert found["console"] == found["said"] == []
    assert found["screen"][0] == size[0]
    check_filters(found)
    check_images(found)
    check_width(found)


def check_filters(found: dict) -> None:
    decided = claims.report(run_context()).decided
    ids = [one.claim.id for one in decided]
    assert len(ids) == 23
    for name in ("all", "reset"):
        assert found[name]["table"] == found[name]["articles"] == ids
    assert found["all"]["says"] == "Showing 23 of 23 claims."
    for paper, shown in found["paper"].items():
        wanted = [one.claim.id for one in decided if paper in ("", one.claim.paper)]
        assert shown["table"] == shown["articles"] == wanted
        assert shown["says"] == f"Showing {len(wanted)} of 23 claims."
    classes = {"holds": "holds", "part": "holds in part", "none": "no evidence", "bounded": "bounded"}
    for name, verdict in classes.items():
        wanted = [one.claim.id for one in decided if one.verdict == verdict]
        assert wanted and found["verdict"][name]["table"] == wanted == found["verdict"][name]["articles"]
    assert found["both"]["table"] == ["R2", "R3", "R4", "R5"]


def check_images(found: dict) -> None:
    assert len(found["images"]) >= len(world.FIGURES)
    assert all(natural > 0 and shown > 0 for natural, shown in found["images"])


def check_width(found: dict) -> None:
    """Nothing but tables in frames of their own is wider than the screen, and no letter is tiny."""
    assert found["outside"] == [] and found["screen"][1] <= found["screen"][0]
    assert min(found["letters"]) >= 12


def test_the_committed_copy_links_to_what_is_committed(report, tmp_path):
    copy = paths.REFERENCE_FIGURES / "mini" / "report.html"
    copy.parent.mkdir(parents=True)
    copy.write_bytes(report.read_bytes())
    found = looked_at(copy, DESKTOP, tmp_path / "browser")
    root = paths.ROOT.resolve().as_uri()
    places = {link.removeprefix(root).rpartition("/")[0] for link in found["links"]}
    assert places == {"/data/results/mini", "/notebooks"}
