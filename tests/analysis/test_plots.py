from __future__ import annotations

import matplotlib
import pandas
import pytest

matplotlib.use("Agg")
from matplotlib import pyplot  # noqa: E402

from analysis import plots  # noqa: E402
from analysis.profiles import run_context  # noqa: E402


def drawn():
    plots.use_style()
    fig, axes = pyplot.subplots(figsize=(2, 1.5))
    axes.plot([1, 2], [3, 4], **plots.look("redvtp").line())
    return fig


@pytest.fixture
def figure():
    yield drawn()
    pyplot.close("all")


def test_figures_are_the_same_bytes_again(project):
    with matplotlib.rc_context():
        first, again = (
            [path.read_bytes() for path in plots.save_figure(drawn(), name, run_context(), ("png", "pdf", "svg"))]
            for name in ("one", "two")
        )
    pyplot.close("all")
    assert first == again
    assert not any(word in first[0] for word in (b"Software", b"Matplotlib"))


def test_the_users_own_settings_do_not_reach_a_figure(project):
    with matplotlib.rc_context({"font.size": 30, "lines.linewidth": 9}):
        plots.use_style()
        assert matplotlib.rcParams["font.size"] == 9 and matplotlib.rcParams["lines.linewidth"] == 1.6


def test_quick_figures_are_marked_and_apart(project, figure):
    (plain,) = plots.save_figure(figure, "one", run_context())
    (quick,) = plots.save_figure(figure, "one", run_context(mode="quick"))
    assert (plain.parent.name, quick.parent.name) == ("mini", "mini-quick")
    assert plain.read_bytes() != quick.read_bytes()
    assert not figure.texts   # the mark is taken off again


def test_wrong_names_and_formats_are_refused(project, figure):
    with pytest.raises(ValueError, match="unknown figure format 'gif', expected one of: png, pdf, svg"):
        plots.save_figure(figure, "one", run_context(), ("gif",))
    with pytest.raises(ValueError, match="name '../one'"):
        plots.save_figure(figure, "../one", run_context())


def test_methods_differ_without_colour():
    looks = list(plots.METHODS.values())
    assert len({(look.marker, str(look.linestyle)) for look in looks}) == len(looks)
    assert plots.look("new_method") == plots.look("new_method") and plots.look("new_method").label == "new method"


def test_a_table_is_markdown_for_readers_and_csv_for_programs(project):
    frame = pandas.DataFrame({"method": ["redvtp", "a|b"], "rate": [0.123456, float("nan")], "n": [100, 7]})
    markdown, csv = plots.save_table(frame, "table", run_context(), "What it says.")
    assert markdown.read_text() == (
        "What it says.\n\n"
        "| method |  rate |   n |\n"
        "| ------ | ----: | --: |\n"
        "| redvtp | 0.123 | 100 |\n"
        "| a\\|b   |     - |   7 |\n"
    )
    assert csv.read_text() == "method,rate,n\nredvtp,0.123456,100\na|b,,7\n"
    quick, _ = plots.save_table(frame, "table", run_context(mode="quick"), "What it says.")
    assert quick.read_text().startswith("**Quick run, n = 16: not for quoting.** What it says.")


def test_the_caption_names_n_profile_and_evidence():
    provenance = {"n": 300, "seeds": [0, 1, 2], "link": "mini"}
    text = plots.caption(run_context(), provenance, "95% intervals")
    link = "mini (a small trained model, not an 8B one)"
    assert text == f"n = 300 a family x 3 seeds; profile mini; evidence: {link}; 95% intervals"


def test_the_caption_of_counts_names_no_samples():
    text = plots.caption(run_context(), {"n": 100, "seeds": [0], "link": "flops"}, "in percent")
    link = "flops (counted on the true 8B shapes)"
    assert text == f"counted exactly, nothing is sampled; profile mini; evidence: {link}; in percent"
