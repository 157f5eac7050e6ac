"""The published data sets: small parquet files in their columns, what is asked, what is drawn, what is measured."""

from __future__ import annotations

import importlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import redvtp
from analysis import accuracy, answers, benchmarks, layer_attention, paths, step_similarity, token_counts
from analysis.benchmarks import PUBLISHED, parquet
from analysis.benchmarks.parquet import DataError
from analysis.benchmarks.published import Drawn, draw
from analysis.command import command
from analysis.profiles import Draw, run_context
from redvtp.cli.shapes import unloaded
from redvtp.sequence import count_kinds
from tests.untrained import untrained

try:
    import datasets  # noqa: F401
    import pyarrow
    from pyarrow import parquet as pq
except ImportError:
    pyarrow = None

needs_extra = pytest.mark.skipif(pyarrow is None, reason='needs datasets and pyarrow: pip install "redvtp[paper]"')

ROWS = 10
GROUP = 3


def image(index: int, form: str = "PNG", exif: bytes | None = None) -> dict:
    """A picture as the image column holds it: 40 + index wide, 30 high, a colour of its own."""
    buffer = io.BytesIO()
    picture = Image.new("RGB", (40 + index, 30), (index, 100, 200))
    picture.save(buffer, form, **({"exif": exif} if exif else {}))
    return {"bytes": buffer.getvalue(), "path": None}


def columns(name: str) -> dict[str, list]:
    """All columns of a data set of lmms-lab, as its card on the hub lists them."""
    at = range(ROWS)
    text = [f"Question {i}?" for i in at]
    images = [image(i) for i in at]
    return {
        "docvqa": {
            "questionId": [str(i) for i in at], "question": text, "question_types": [["form", "layout"]] * ROWS,
            "image": images, "docId": list(at), "ucsf_document_id": ["x"] * ROWS, "ucsf_document_page_no": ["1"] * ROWS,
            "answers": [[f"Answer {i}", f"answer {i}"] for i in at], "data_split": ["val"] * ROWS,
        },
        "infovqa": {
            "questionId": [str(i) for i in at], "question": text, "answers": [[f"{i}%"] for i in at],
            "answer_type": [["single span"], None] * (ROWS // 2), "image": images, "image_url": ["http://x"] * ROWS,
            "operation/reasoning": [["counting"]] * ROWS, "ocr": ["{}"] * ROWS, "data_split": ["val"] * ROWS,
        },
        "chartqa": {
            "type": ["human_test", "augmented_test"] * (ROWS // 2), "question": text, "answer": [str(i) for i in at],
            "image": images,
        },
        "ai2d": {
            "question": text, "options": [["ant", "bee", "cow"]] * ROWS, "answer": [str(i % 3) for i in at],
            "image": images,
        },
        "mmbench": {
            "index": list(at), "question": text, "hint": ["A hint.", "nan"] * (ROWS // 2), "answer": ["B"] * ROWS,
            "A": ["ant"] * ROWS, "B": ["bee"] * ROWS, "C": ["nan"] * ROWS, "D": ["dog", None] * (ROWS // 2),
            "category": ["ocr"] * ROWS, "image": images, "source": ["s"] * ROWS, "L2-category": ["l"] * ROWS,
            "comment": ["nan"] * ROWS, "split": ["dev"] * ROWS,
        },
        "realworldqa": {
            "image": images, "question": [f" {one}\nA. left\nB. right " for one in text],
            "answer": ["A", "Downhill"] * (ROWS // 2),
        },
    }[name]  # fmt: skip


def write(folder: Path, name: str, parts: int = 2, **changed: list) -> Path:
    """A download of a data set in `parts` files of row groups of three."""
    of = PUBLISHED[name]
    there = folder / of.repository.split("/")[1] / of.folder
    there.mkdir(parents=True, exist_ok=True)
    table = pyarrow.table(columns(name) | changed)
    for part in range(parts):
        rows = table.slice(part * ROWS // parts, (part + 1) * ROWS // parts - part * ROWS // parts)
        pq.write_table(rows, there / f"{of.split}-{part:05}-of-{parts:05}.parquet", row_group_size=GROUP)
    return there


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder with all six data sets."""
    for name in PUBLISHED:
        write(tmp_path / "data", name)
    return tmp_path / "data"


def samples(data: Path, name: str, indices=range(ROWS)) -> Drawn:
    of = PUBLISHED[name]
    return Drawn(of, of.table(of.files(str(data))), list(indices), seed=7)


# ---- what is asked ---------------------------------------------------------------------------------------

PHRASE = "\nAnswer the question using a single word or phrase."
LETTER = "\nAnswer with the option's letter from the given choices directly."
ASKED = {
    "docvqa": ("Question 4?" + PHRASE, ("Answer 4", "answer 4"), "form"),
    "infovqa": ("Question 4?" + PHRASE, ("4%",), "single span"),
    "chartqa": ("Question 4?\nAnswer the question with a single word.", ("4",), "human_test"),
    "ai2d": ("Question 4?\nA. ant\nB. bee\nC. cow" + LETTER, ("B",), "choice"),
    "mmbench": ("A hint. Question 4? There are several options:\nA. ant\nB. bee\nD. dog\n" + LETTER, ("B",), "ocr"),
    "realworldqa": ("Question 4?\nA. left\nB. right", ("A",), "choice"),
}


@needs_extra
@pytest.mark.parametrize("name", PUBLISHED)
def test_rows_become_samples_with_the_tasks_prompt(data, name):
    drawn = samples(data, name)
    sample = drawn[4]
    assert (sample.question, sample.accepted, sample.kind) == ASKED[name]
    assert (sample.family, sample.split, sample.seed, sample.index) == (name, PUBLISHED[name].split, 7, 4)
    assert sample.image.mode == "RGB" and sample.image.size == (44, 30)
    assert np.asarray(sample.image)[0, 0].tolist() == [4, 100, 200]
    assert [one.index for one in drawn] == list(range(ROWS))


@needs_extra
def test_hints_and_options_that_are_not_there_are_left_out(data):
    assert samples(data, "mmbench")[5].question == "Question 5? There are several options:\nA. ant\nB. bee\n" + LETTER
    assert samples(data, "realworldqa")[5].kind == "open" and samples(data, "infovqa")[5].kind == "unknown"


def test_protocols_are_those_of_the_official_evaluation():
    def told(name):
        protocol = benchmarks.get(name).protocol
        return protocol.length, protocol.block_length, protocol.steps

    assert {name: told(name) for name in PUBLISHED} == {
        "docvqa": (32, 32, 16), "infovqa": (32, 32, 16), "chartqa": (16, 16, 16), "ai2d": (2, 2, 2),
        "mmbench": (2, 2, 2), "realworldqa": (2, 2, 2)}  # fmt: skip
    # MME's score is of pairs of questions: only lmms-eval's own reader has them.
    assert [*PUBLISHED] == [family for family in run_context("paper").profile.families if family != "mme"]
    assert {name for name in PUBLISHED if benchmarks.get(name).stop == ("\n",)} == {"chartqa"}


@needs_extra
@pytest.mark.parametrize("family", ["docvqa", "doc"])
def test_llada_v_is_told_not_to_think_about_published_questions_alone(data, family, monkeypatch):
    asked, real = [], redvtp.Prompt
    monkeypatch.setattr(redvtp, "Prompt", lambda text, images: asked.append(text) or real(text, images))
    sample = samples(data, family)[0] if family in PUBLISHED else benchmarks.get(family).sample("test", 0, 0)
    answers.start(untrained(), [sample])
    assert asked == [sample.question + (" /no_think" if family in PUBLISHED else "")]


# ---- what is read ----------------------------------------------------------------------------------------


@needs_extra
def test_only_the_row_groups_of_the_drawn_rows_are_read(data):
    drawn = samples(data, "docvqa", [3, 4, 7])  # the files have rows 0-4 and 5-9, in groups of three
    assert [sample.index for sample in drawn] == [3, 4, 7] and drawn.table.groups_read == 2
    part = samples(data, "docvqa")[8:]
    assert part.table.groups_read == 0 and [sample.index for sample in part] == [8, 9] and part.table.groups_read == 1
    with pytest.raises(IndexError, match="docvqa: row 10 of 10"):
        part.table.row(10)


@needs_extra
def test_pictures_are_turned_as_their_camera_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    write(tmp_path, "chartqa", image=[image(i, "JPEG", exif.tobytes()) for i in range(ROWS)])
    assert samples(tmp_path, "chartqa")[2].image.size == (30, 42)


def test_a_draw_is_a_share_by_seed_and_a_larger_one_holds_it():
    fifth = draw("infovqa", 2801, 0.2, 0)
    assert len(fifth) == 560 == len(set(fifth)) and fifth == sorted(fifth) and max(fifth) < 2801
    assert fifth == draw("infovqa", 2801, 0.2, 0) != draw("infovqa", 2801, 0.2, 1)
    assert fifth != draw("docvqa", 2801, 0.2, 0) and set(fifth) < set(draw("infovqa", 2801, 0.5, 0))
    assert draw("infovqa", 7, 1, 0) == list(range(7)) and len(draw("infovqa", 7, 0.01, 0)) == 1
    assert set(draw("infovqa", 2801, 0.2, 0, most=16)) < set(fifth)
    halves = np.histogram(fifth, bins=4, range=(0, 2801))[0]
    assert halves.min() > 100  # from everywhere


# ---- what is wrong ---------------------------------------------------------------------------------------


@needs_extra
@pytest.mark.parametrize("name", ["infovqa", "ai2d"])
def test_a_folder_without_the_files_says_where_they_were_looked_for(tmp_path, name):
    with pytest.raises(DataError) as caught:
        samples(tmp_path, name)
    wanted = {"infovqa": "DocVQA/InfographicVQA/validation-*.parquet", "ai2d": "ai2d/data/test-*.parquet"}[name]
    assert str(caught.value).startswith(f"{name}: no parquet files; looked for {tmp_path}/{wanted}")


@needs_extra
def test_the_download_itself_and_folders_of_our_names_do_as_well(data, tmp_path):
    assert len(samples(data / "DocVQA", "infovqa")) == ROWS
    (tmp_path / "own").mkdir()
    (data / "RealWorldQA" / "data").rename(tmp_path / "own" / "realworldqa")
    assert len(samples(tmp_path / "own", "realworldqa")) == ROWS


@needs_extra
def test_other_columns_a_torn_file_and_a_torn_picture_are_named(tmp_path):
    there = write(tmp_path, "chartqa", parts=1, image=[{"bytes": b"no picture", "path": None}] * ROWS)
    with pytest.raises(DataError, match="chartqa: row 2 is not what its columns say .*cannot identify"):
        samples(tmp_path, "chartqa")[2]
    (file,) = there.iterdir()
    file.rename(tmp_path / "test-0.parquet")
    (tmp_path / "ai2d").mkdir()
    (tmp_path / "test-0.parquet").rename(tmp_path / "ai2d" / "test-0.parquet")
    with pytest.raises(DataError, match="has no column options; its columns are type, question, answer, image"):
        samples(tmp_path, "ai2d")
    (tmp_path / "ai2d" / "test-0.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="ai2d: .*test-0.parquet cannot be read as parquet"):
        samples(tmp_path, "ai2d")


def test_a_missing_library_names_the_command_that_installs_it(tmp_path, monkeypatch):
    def missing(name):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(DataError, match=r'need the library pyarrow .*: pip install "redvtp\[paper\]"'):
        PUBLISHED["docvqa"].table(["x"])
    with pytest.raises(DataError, match="need the library datasets"):
        PUBLISHED["docvqa"].files(None)


@needs_extra
def test_the_hub_is_asked_for_the_split_and_named_by_its_commit(monkeypatch):
    asked = []
    address = "hf://datasets/lmms-lab/DocVQA@0a1b/InfographicVQA/validation-00000-of-00002.parquet"

    class Builder:
        class config:
            data_files = {"validation": [address]}

    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *words: asked.append(words) or Builder)
    files = PUBLISHED["infovqa"].files(None)
    assert asked == [("lmms-lab/DocVQA", "InfographicVQA")] and files == [address]
    assert parquet.content_of(files) == "lmms-lab/DocVQA@0a1b"

    def offline(*words):
        raise ConnectionError("Offline mode is enabled.\nmore")

    monkeypatch.setattr(datasets, "load_dataset_builder", offline)
    with pytest.raises(DataError, match=r"lmms-lab/ai2d cannot be read from the hub \(Offline mode is enabled.\); give "
                                        "a folder .*hf download lmms-lab/ai2d --repo-type dataset"):
        PUBLISHED["ai2d"].files(None)


# ---- what is measured ------------------------------------------------------------------------------------


@pytest.fixture
def measured(data, tmp_path, monkeypatch):
    """Runs a measurement's command on the data and returns its file."""
    monkeypatch.setattr(paths, "RUNS", tmp_path / "runs")

    def run(module, name: str, *words: str, code: int = 0) -> dict:
        argv = ["--profile", "paper", "--data", str(data), "--models", "mini/llada_v", *words]
        assert command(name, module.measure, "Some.", argv, published=True) == code
        return json.loads((tmp_path / "runs" / "paper" / f"{name}.json").read_text())

    return run


@needs_extra
def test_token_counts_are_averages_over_the_drawn_samples(measured, data, tmp_path):
    found = measured(token_counts, "token_counts", "--fraction", "0.4", "--seed", "3", "--families", "docvqa", "ai2d")
    mini = unloaded("mini/llada_v")
    assert [row["family"] for row in found["rows"]] == ["docvqa", "ai2d"]
    for row in found["rows"]:
        chosen = list(samples(data, row["family"], draw(row["family"], ROWS, 0.4, 3)))
        visual = [sum(count_kinds(mini.layout(*one.image.size)).values()) for one in chosen]
        prompt = [mini.prompt_tokens(one.question + " /no_think") for one in chosen]
        assert (row["n"], row["host"], row["model"], row["seed"]) == (4, "llada_v", "llada_v", 3)
        assert row["visual_tokens"] == pytest.approx(sum(visual) / 4)
        assert row["prompt_tokens"] == pytest.approx(sum(prompt) / 4)
        assert row["question_tokens"] == pytest.approx(row["prompt_tokens"] - mini.prompt_tokens(""))
        assert row["visual_to_prompt"] == pytest.approx(sum(visual) / sum(prompt))
        assert row["visual_to_prompt_low"] <= row["visual_to_prompt"] <= row["visual_to_prompt_high"]
    told = found["provenance"]
    assert told["draw"] == {"from": "folder", "fraction": 0.4, "seed": 3}
    assert (told["link"], told["profile"], told["n"], told["seeds"]) == ("paper", "paper", None, [3])
    assert set(told["inputs"]) == {"weights llada_v", "data docvqa", "data ai2d"}
    assert told["inputs"]["data ai2d"].startswith("files ") and str(tmp_path) not in json.dumps(found)


@needs_extra
def test_a_larger_share_goes_on_from_the_smaller_one(measured, capsys):
    words = ("--families", "chartqa", "--fraction")
    measured(token_counts, "token_counts", *words, "0.2")
    whole = measured(token_counts, "token_counts", *words, "1")
    assert "2 of 10 pieces are there already" in capsys.readouterr().err and whole["rows"][0]["n"] == ROWS
    again = measured(token_counts, "token_counts", *words, "0.2")
    assert "1 of 1 cells are there already" in capsys.readouterr().err and again["rows"][0]["n"] == 2


@needs_extra
def test_other_files_are_read_anew(measured, data, capsys):
    words = ("--families", "chartqa", "--fraction", "0.2")
    first = measured(token_counts, "token_counts", *words)
    write(data, "chartqa", question=[f"Another question {i}?" for i in range(ROWS)])
    second = measured(token_counts, "token_counts", *words)
    assert second["rows"][0]["question_tokens"] > first["rows"][0]["question_tokens"]
    assert second["provenance"]["inputs"]["data chartqa"] != first["provenance"]["inputs"]["data chartqa"]


@needs_extra
def test_attention_is_measured_sample_by_sample(measured, monkeypatch):
    model, batches, start = untrained(), [], answers.start
    monkeypatch.setattr(answers, "model", lambda name: model)
    monkeypatch.setattr(answers, "start", lambda host, batch, *rest, **options: (
        batches.append(len(batch)) or start(host, batch, *rest, **options)))
    words = ("--fraction", "0.2", "--families", "chartqa", "realworldqa")
    similarity = measured(step_similarity, "step_similarity", *words)
    assert {(row["family"], row["rule"]) for row in similarity["rows"]} == {("chartqa", "none"), ("chartqa", "stop")}
    whole = [row for row in similarity["rows"] if (row["rule"], row["layers"]) == ("none", "all")]
    assert [row["step"] for row in whole] == list(range(2, 16)) and {row["n"] for row in whole} == {2}
    attention = measured(layer_attention, "layer_attention", *words)
    assert {row["family"] for row in attention["rows"]} == {"chartqa", "realworldqa"}
    told = [row for row in attention["rows"] if row["rows"] == "response" and row["step"] is None]
    assert {row["layer"] for row in told} == {1, 2, 3} and {row["n"] for row in told} == {2}
    assert {one["provenance"]["link"] for one in (similarity, attention)} == {"paper"}
    assert {row["model"] for row in attention["rows"]} == {"llada_v"}  # the control reads generated samples alone
    assert set(batches) == {1}


@needs_extra
def test_what_is_not_there_is_told_in_a_line(measured, data, capsys):
    (data / "ai2d").rename(data / "elsewhere")
    with pytest.raises(FileNotFoundError):
        measured(token_counts, "token_counts", "--families", "ai2d", "chartqa", code=1)
    said = capsys.readouterr().err
    assert "ai2d: no parquet files; looked for" in said and "(--families chartqa goes without)" in said


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--profile", "paper", "--fraction", "0"], "fraction is 0.0, expected more than 0 and at most 1"),
        (["--profile", "paper", "--seed", "-1"], "seed is -1, expected 0 or more"),
        (["--profile", "paper", "--families", "vqa"], "unknown data set 'vqa', expected one of: docvqa, infovqa"),
        (["--profile", "paper", "--full"], "profile 'paper' has no full size: draw a fraction of 1"),
        (["--data", "x", "--models", "y"], "--data, --models: for --profile paper, not for mini"),
        (["--processes", "0"], "--processes is 0, expected 1 or more"),
    ],
    ids=["fraction", "seed", "family", "full", "mini", "processes"],
)
def test_wrong_words_are_refused_before_any_work(words, message, capsys):
    with pytest.raises(SystemExit) as caught:
        command("token_counts", pytest.fail, "Some.", words, published=True)
    assert caught.value.code == 2 and message in capsys.readouterr().err


def test_what_measures_generated_samples_refuses_published_ones(capsys):
    with pytest.raises(SystemExit):
        command("accuracy", accuracy.measure, "Some.", ["--profile", "paper"])
    assert "accuracy is not measured on profile paper" in capsys.readouterr().err
    with pytest.raises(ValueError, match="profile 'mini' draws nothing from published data sets"):
        run_context(draw=Draw())
