"""The runner as users meet it: a small project of its own, its own notebooks, the command line.

Starting a kernel takes seconds, so the slow steps are taken once, in order, and the tests look at what they left.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PARAMETERS = "profile = 'mini'\nmode = 'default'\nforce = False\nsource = 'run'"
START = "from analysis.profiles import run_context\nrun = run_context(profile, mode, force, source)\n"
DRAW = "from analysis import storage\nstorage.write_text(run.figures / '{name}.md', str(rows))"
TINY = """
from analysis.results import Measurement
from redvtp.helper import FACTOR

def measure(run):
    with Measurement("tiny", run, by=("x",), link="mini") as m:
        m.each([{"x": x} for x in range(3)], lambda cell: [{**cell, "y": cell["x"] * FACTOR}])
"""
MEASURE = "from analysis import tiny\nfrom analysis.results import measured\n"
MEASURE += "rows = measured('tiny', run, tiny.measure).rows\nprint(len(rows), 'rows read')"
REGISTRY = """
NOTEBOOKS = (
    Notebook("good", "good.ipynb", ("tiny",), "a table"),
    Notebook("broken", "broken.ipynb", (), "nothing"),
    Notebook("after", "after.ipynb", (), "another table"),
)
"""


def write_notebook(path: Path, *codes: str, kernel: dict | None = None) -> None:
    cells = [
        {
            "cell_type": "code", "execution_count": None, "id": f"cell-{i}", "outputs": [], "source": code,
            "metadata": {"tags": ["parameters"] if i == 0 else []},
        }
        for i, code in enumerate((PARAMETERS, *codes))
    ]
    metadata = {"kernelspec": kernel} if kernel else {}
    path.write_text(json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}))


# A kernel that has answered the question that a run ends with, but is not done with it yet. A busy machine makes any
# kernel such a one now and then.
LINGERING = """
import time
handlers = get_ipython().kernel.shell_handlers
answer = handlers["kernel_info_request"]

async def answer_and_linger(*message):
    await answer(*message)
    time.sleep(1)

handlers["kernel_info_request"] = answer_and_linger
"""


class Checkout:
    """A committed project whose notebooks are tiny, on a machine whose python3 kernel is broken."""

    def __init__(self, root: Path, elsewhere: Path) -> None:
        self.root = root
        (root / "analysis").mkdir(parents=True)
        for path in (REPOSITORY / "analysis").glob("*.py"):
            shutil.copy(path, root / "analysis")
        for name in ("pyproject.toml", ".gitignore"):
            shutil.copy(REPOSITORY / name, root)
        (root / "analysis" / "tiny.py").write_text(TINY)
        (root / "redvtp").mkdir()
        (root / "redvtp" / "__init__.py").write_text("")
        (root / "redvtp" / "helper.py").write_text("FACTOR = 2\n")
        registry = root / "analysis" / "registry.py"
        before, start, rest = registry.read_text().partition("NOTEBOOKS = (")
        registry.write_text(before + REGISTRY + rest.partition("\n)\n")[2])
        (root / "notebooks").mkdir()
        python3 = {"name": "python3", "display_name": "Python 3", "language": "python"}
        julia = {"name": "julia-1.9", "display_name": "Julia", "language": "julia"}
        draw_after = "rows = 'none'\n" + DRAW.format(name="after")
        write_notebook(
            root / "notebooks" / "good.ipynb", START + MEASURE, DRAW.format(name="good"), kernel=python3
        )
        write_notebook(root / "notebooks" / "broken.ipynb", "1 / 0", kernel=julia)
        write_notebook(root / "notebooks" / "after.ipynb", START, draw_after)
        spec = elsewhere / "kernels" / "python3" / "kernel.json"
        spec.parent.mkdir(parents=True)
        broken = {"argv": [str(elsewhere / "gone"), "{connection_file}"], "language": "python"}
        spec.write_text(json.dumps(broken | {"display_name": "broken"}))
        self.environment = {**os.environ, "JUPYTER_PATH": str(elsewhere), "PYTHONDONTWRITEBYTECODE": "1"}
        self.environment.pop("PYTHONPATH", None)
        self.git("init", "-q")
        self.git("add", "-A")
        self.git("-c", "user.name=a", "-c", "user.email=a@b", "commit", "-q", "-m", "start")

    def git(self, *arguments: str) -> str:
        command = ["git", "-C", str(self.root), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    def run(self, *arguments: str) -> Run:
        started = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "analysis.reproduce", *arguments],
            cwd=self.root, env=self.environment, capture_output=True, text=True,
        )
        return Run(done.returncode, done.stdout, done.stderr, time.perf_counter() - started)

    def result(self) -> dict:
        return json.loads((self.root / "data" / "runs" / "mini" / "tiny.json").read_text())


class Run:
    def __init__(self, code: int, out: str, err: str, seconds: float) -> None:
        self.code, self.out, self.err, self.seconds = code, out, err, seconds


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("a b") / "project", tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="module")
def first(checkout) -> Run:
    return checkout.run()


@pytest.fixture(scope="module")
def second(checkout, first) -> Run:
    return checkout.run("--only", "after", "good")


@pytest.fixture(scope="module")
def accepted(checkout, second) -> Run:
    return checkout.run("--only", "good", "--accept")


def test_a_failing_notebook_names_its_log_and_the_others_run_on(checkout, first):
    assert first.code == 1
    lines = first.out.splitlines()
    log = "data/runs/mini/notebooks/broken.log"
    assert lines[0] == "profile mini: n = 100 a family, seed 0"
    assert lines[1].startswith("[1/3] good ") and lines[1].endswith("3 cells computed, 0 reused, 1 files drawn")
    assert lines[2].startswith("[2/3] broken ") and "ZeroDivisionError: division by zero" in lines[2]
    assert lines[2].endswith(f"(log: {log})")
    assert lines[3].startswith("[3/3] after ") and lines[3].endswith("1 files drawn")
    assert "ZeroDivisionError" in (checkout.root / log).read_text()
    assert "\x1b" not in (checkout.root / log).read_text()


def test_notebooks_run_on_this_interpreter_with_the_parameters(checkout, first):
    executed = json.loads((checkout.root / "data/runs/mini/notebooks/good.ipynb").read_text())
    injected = "".join(executed["cells"][1]["source"])
    assert 'profile = "mini"' in injected and 'source = "run"' in injected
    assert "3 rows read" in (checkout.root / "data/runs/mini/notebooks/good.log").read_text()
    assert checkout.result()["provenance"]["dirty"] is False


def test_the_run_ends_with_the_agreement_and_where_figures_are(first):
    assert "tiny         -      -       -        -             -             no reference" in first.out
    assert "figures and tables: figures/mini\n" in first.out


def test_a_run_edits_no_tracked_file(checkout, first):
    assert checkout.git("status", "--porcelain") == ""


def test_an_unchanged_run_starts_no_kernel(second):
    assert second.code == 0
    assert second.out.count("up to date, not run again") == 2
    assert second.seconds < 15


def test_an_accepted_run_is_what_the_next_agrees_with(checkout, accepted):
    assert accepted.code == 0 and "accepted as the reference: 2 files" in accepted.out
    changed = checkout.git("status", "--porcelain", "-uall").split()
    assert changed == ["??", "data/results/mini/tiny.json", "??", "figures/reference/mini/good.md"]
    again = checkout.run("--only", "good")
    assert "tiny         3      0       0        0             0             agrees" in again.out


def test_from_reference_only_draws(checkout, accepted):
    drawn = checkout.root / "figures" / "mini" / "good.md"
    content, before = drawn.read_text(), checkout.result()
    drawn.unlink()
    # Rows that only the reference has show where the drawing comes from.
    committed = checkout.root / "data" / "results" / "mini" / "tiny.json"
    text = committed.read_text()
    committed.write_text(text.replace('"y": 4', '"y": 400'))
    run = checkout.run("--only", "good", "--from-reference")
    committed.write_text(text)
    assert run.code == 0 and "drawing from data/results/mini" in run.out
    assert drawn.read_text() == content.replace("'y': 4", "'y': 400")
    assert checkout.result() == before


def test_a_changed_source_computes_again_and_differences_show(checkout, accepted):
    helper = checkout.root / "redvtp" / "helper.py"
    helper.write_text("FACTOR = 3\n")
    run = checkout.run("--only", "good")
    helper.write_text("FACTOR = 2\n")
    assert run.code == 0 and "3 cells computed, 0 reused" in run.out
    assert "  tiny: x=2: y 6, reference 4" in run.out


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--only", "nothing"], 2, "unknown notebook 'nothing', expected: good, broken, after"),
        (["--profile", "huge"], 2, "unknown profile 'huge', expected one of: mini, speed, paper"),
        (["--accept", "--quick"], 2, "--quick makes no reference"),
        (["--from-reference", "--full"], 2, "--from-reference only draws"),
    ],
)
def test_wrong_words_are_refused_in_one_line(checkout, arguments, code, message):
    run = checkout.run(*arguments)
    assert run.code == code and message in run.err and run.err.count("\n") == 1
    assert "[1/" not in run.out


def test_ctrl_c_ends_the_run_and_is_told(checkout, accepted):
    path = checkout.root / "notebooks" / "after.ipynb"
    text = path.read_text()
    write_notebook(path, START + "import time\nprint('sleeping', flush=True)\ntime.sleep(60)")
    command = [sys.executable, "-m", "analysis.reproduce", "--only", "after", "good"]
    running = subprocess.Popen(
        command, cwd=checkout.root, env=checkout.environment, start_new_session=True, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        # Tests that run in the background of a shell are told to ignore what a terminal sends.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    log = checkout.root / "data" / "runs" / "mini" / "notebooks" / "after.log"
    deadline = time.monotonic() + 50
    while time.monotonic() < deadline and "sleeping" not in log.read_text():
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to the runner and the kernel
    _, err = running.communicate(timeout=30)
    path.write_text(text)
    assert running.returncode == 130
    assert "reproduce: interrupted; finished cells are kept, run it again to go on" in err


def test_a_kernel_that_still_works_when_its_notebook_is_over_is_not_interrupted(checkout, accepted):
    path = checkout.root / "notebooks" / "after.ipynb"
    text = path.read_text()
    write_notebook(path, LINGERING)
    run = checkout.run("--only", "after")
    path.write_text(text)
    assert (run.code, run.err) == (0, "")


def test_a_notebook_without_the_parameters_is_refused_before_any_runs(checkout, accepted):
    path = checkout.root / "notebooks" / "after.ipynb"
    text = path.read_text()
    path.write_text(text.replace("source = 'run'", "origin = 'run'"))
    run = checkout.run("--force")
    path.write_text(text)
    assert run.code == 2 and run.out == ""
    message = "notebooks/after.ipynb does not take source; its parameters are: profile, mode, force, origin"
    assert message in run.err


def test_the_list_needs_no_heavy_import(checkout):
    script = "import sys; from analysis.reproduce import main; main(['--list']); "
    script += "print(sorted({'torch', 'papermill', 'pandas', 'matplotlib', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], cwd=checkout.root, capture_output=True, text=True)
    assert done.stdout.splitlines()[1].split() == ["good", "a", "table", "[mini]"]
    assert done.stdout.splitlines()[-1] == "[]"
