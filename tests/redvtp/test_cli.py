"""The command line: what it prints and writes, and one line for words that cannot be meant."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from redvtp import Count, RedVTP, Share, load
from redvtp.cli import generate, main, words
from redvtp.cli.output import Output
from redvtp.cli.shapes import text_config, unloaded
from redvtp.models.llada_v import LladaV
from redvtp.models.published import HEAD_ROWS, true_layout
from redvtp.sequence import VISUAL
from tests.tiny import picture

SHORT = ["--length", "6", "--steps", "3"]


@pytest.fixture(scope="session")
def folder(host, tmp_path_factory):
    """The tiny host as a model folder."""
    path = tmp_path_factory.mktemp("model")
    host.model.save_pretrained(path)
    host.tokenizer.save_pretrained(path)
    (path / "redvtp.json").write_text(json.dumps({"host": "llada_v", "system_prompt": host.system_prompt}))
    return path


@pytest.fixture
def work(tmp_path):
    """Three images, and questions about them and about none."""
    (tmp_path / "pages").mkdir()
    for i in range(3):
        picture(60 + 20 * i, 40, i).save(tmp_path / "pages" / f"{i}.png")
    lines = [{"image": f"pages/{i}.png", "question": f"What is {i}?", "answer": "left alone"} for i in range(3)]
    lines.append({"id": "text", "image": None})
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def rows(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def call(*argv) -> int:
    return main([str(word) for word in argv])


def refused(capsys, *argv) -> str:
    """The one line that a refusal says."""
    with pytest.raises(SystemExit) as exit_:
        call(*argv)
    out, err = capsys.readouterr()
    assert (exit_.value.code, out, err.count("\n")) == (2, "", 1)
    return err


def test_an_image_gives_its_answer(folder, work, capsys):
    page = work / "pages" / "0.png"
    assert call("generate", page, "What?", "--model", folder, "--keep", "25%", *SHORT) == 0
    out, err = capsys.readouterr()
    answer = load(folder).generate(page, "What?", prune=RedVTP(keep=0.25), length=6, steps=3)
    assert out == f"{answer.text}\n"
    assert err.startswith(f"{len(answer.kept)} of {answer.visual_tokens} visual tokens kept")


def test_json_says_what_the_answer_took(folder, work, capsys):
    page = work / "pages" / "0.png"
    call("generate", page, "What?", "--model", folder, "--method", "none", "--json", *SHORT)
    (row,) = rows(capsys.readouterr().out)
    answer = load(folder).generate(page, "What?", length=6, steps=3)
    assert (row["id"], row["question"], row["text"]) == ("0.png", "What?", answer.text)
    assert (row["kept"], row["visual_tokens"]) == (answer.visual_tokens, answer.visual_tokens)
    assert (row["tokens_fed"], row["flops"], row["steps"]) == (answer.tokens_fed, answer.flops, 3)
    assert row["seconds"] > 0 and (row["run"]["method"], row["run"]["keep"]) == ("none", None)


def test_a_file_of_questions_is_answered_and_taken_up_again(folder, work, capsys):
    out = work / "out.jsonl"
    words_ = ["generate", work / "q.jsonl", "And?", "--model", folder, "--out", out, "--keep", "3t", *SHORT]
    assert call(*words_, "--batch", "2") == 0
    assert "4/4" in capsys.readouterr().err
    whole = out.read_text()
    assert [(row["id"], row["question"]) for row in rows(whole)] == [
        (1, "What is 0?"), (2, "What is 1?"), (3, "What is 2?"), ("text", "And?")]  # fmt: skip
    assert [row["kept"] for row in rows(whole)] == [3, 3, 3, 0]
    lines = whole.splitlines(keepends=True)
    out.write_text("".join(lines[:2]) + lines[2][:20])  # as an interrupted run may leave it
    assert call(*words_) == 0
    assert "2 of 4 are in" in capsys.readouterr().err
    timed = [{**row, "seconds": 0} for row in rows(out.read_text())]
    assert timed == [{**row, "seconds": 0} for row in rows(whole)]
    assert call(*words_) == 0 and len(rows(out.read_text())) == 4


def test_answers_of_another_run_are_refused(folder, work, capsys):
    out = work / "out.jsonl"
    words_ = ["generate", work / "q.jsonl", "And?", "--model", folder, "--out", out, *SHORT]
    call(*words_)
    capsys.readouterr()
    said = refused(capsys, *words_, "--keep", "0.25")
    assert f"{out}, line 1: it holds answers with keep '50%', this run has '25%'" in said
    out.write_text('{"no": "answer"}\n')
    assert f"{out}, line 1: expected an answer of this command" in refused(capsys, *words_)


@pytest.mark.parametrize(
    "content",
    [
        "precious notes without newline",
        '{"id": 1, "note": "precious"}',
        '{"id": 1, "question": "a whole object, but no answer"}',
        '{"id": [1, "question": "',
        "\n",
        "café".encode("latin-1"),
    ],
)
def test_a_file_that_holds_no_answers_is_refused_and_left_as_it_is(folder, work, capsys, monkeypatch, content):
    monkeypatch.setattr(LladaV, "from_folder", lambda *_, **__: pytest.fail("weights were loaded"))
    notes = work / "notes.txt"
    content = content if isinstance(content, bytes) else content.encode()
    notes.write_bytes(content)
    said = refused(capsys, "generate", work / "q.jsonl", "And?", "--model", folder, "--out", notes, *SHORT)
    assert str(notes) in said and "expected" in said
    assert notes.read_bytes() == content


def test_a_last_line_of_ours_is_taken_up_wherever_it_was_cut_off(folder, work, capsys):
    line = {"id": 'p"é\\', "image": "pages/0.png", "question": "Où?"}
    (work / "q.jsonl").write_text(json.dumps(line) + "\n" + json.dumps(line | {"id": -7}) + "\n")
    out = work / "out.jsonl"
    words_ = ["generate", work / "q.jsonl", "--model", folder, "--out", out, *SHORT]
    call(*words_)
    whole = out.read_bytes()
    run = rows(whole.decode())[0]["run"]
    first, second = whole.splitlines(keepends=True)
    for answer in (first, second):
        for end in range(1, len(answer) - 1):
            out.write_bytes(first + answer[:end])  # also in the middle of a letter of two bytes
            with Output(out, run) as output:
                assert len(output.done) == 1
            assert out.read_bytes() == first
    out.write_bytes(first + second[:-1])  # only its end is missing
    with Output(out, run) as output:
        assert len(output.done) == 2
    assert out.read_bytes() == whole


def test_a_cut_off_line_stays_until_answers_are_written(folder, work, capsys, monkeypatch):
    out = work / "out.jsonl"
    words_ = ["generate", work / "q.jsonl", "And?", "--model", folder, "--out", out, *SHORT]
    call(*words_)
    out.write_bytes(out.read_bytes()[:-9])
    before = out.read_bytes()

    def broken(*_, **__):
        raise OSError("weights cannot be read")

    monkeypatch.setattr(generate, "load", broken)
    assert call(*words_) == 1
    assert out.read_bytes() == before


def test_another_image_of_the_same_name_is_answered(folder, work, capsys, monkeypatch):
    out = work / "out.jsonl"
    more = ["--model", folder, "--out", out, *SHORT]
    for i, name in enumerate("ab"):
        (work / name).mkdir()
        picture(60 + 20 * i, 40, i).save(work / name / "page.png")
        (work / name / "questions.jsonl").write_text('{"image": "page.png", "question": "Who?"}\n')
    for source, question in (("page.png", "What?"), (".", "Where?"), ("questions.jsonl", None)):
        out.unlink(missing_ok=True)
        for name in "ab":
            monkeypatch.chdir(work / name)  # the words are the same, what they name is not
            call("generate", source, *([question] if question else []), *more)
        found = rows(out.read_text())
        assert len(found) == 2 and found[0]["id"] == found[1]["id"]
        assert found[0]["visual_tokens"] != found[1]["visual_tokens"]
        monkeypatch.chdir(work)
        capsys.readouterr()
        for name in "ab":
            assert call("generate", f"{name}/{source}", *([question] if question else []), *more) == 0
            assert "1 of 1 are in" in capsys.readouterr().err
    assert [row["images"] for row in found] == [["page.png"], ["page.png"]]


def test_other_evidence_is_answered(folder, work, capsys):
    out = work / "out.jsonl"
    words_ = ["generate", work / "e.jsonl", "--model", folder, "--method", "oracle", "--out", out, *SHORT]
    for box in ([0, 0, 30, 20], [30, 20, 60, 40]):
        (work / "e.jsonl").write_text(json.dumps({"image": "pages/2.png", "question": "?", "evidence": [box]}) + "\n")
        call(*words_)
    assert len(rows(out.read_text())) == 2


def test_a_folder_goes_on_past_an_image_that_cannot_be_read(folder, work, capsys):
    (work / "pages" / "0.png").write_bytes(b"no image")
    out = work / "out.jsonl"
    assert call("generate", work / "pages", "What?", "--model", folder, "--out", out, "--batch", "2", *SHORT) == 1
    assert [row["id"] for row in rows(out.read_text())] == ["1.png", "2.png"]
    said = capsys.readouterr().err
    assert "0.png: " in said and "expected an image that Pillow can open" in said and "1 failed" in said


def test_maps_are_drawn(folder, work):
    page = work / "pages" / "0.png"
    call("generate", page, "What?", "--model", folder, "--save-map", work / "kept.png", *SHORT)
    call("generate", work / "q.jsonl", "And?", "--model", folder, "--save-map", work / "maps", "--out",
         work / "out.jsonl", "--batch", "4", "--method", "llada_fastv", *SHORT)  # fmt: skip
    assert sorted(path.name for path in (work / "maps").iterdir()) == ["1.png", "2.png", "3.png"]
    assert Image.open(work / "kept.png").size == Image.open(work / "maps" / "1.png").size == (984, 704)


def test_evidence_in_the_file_serves_the_oracle(folder, work, capsys):
    line = {"image": "pages/2.png", "question": "?", "evidence": [[0, 0, 30, 20]]}
    (work / "e.jsonl").write_text(json.dumps(line) + "\n")
    assert call("generate", work / "e.jsonl", "--model", folder, "--method", "oracle", "--keep", "50%", *SHORT) == 0
    (row,) = rows(capsys.readouterr().out)
    assert row["kept"] == row["visual_tokens"] // 2


def test_a_map_changes_no_answer(folder, work, capsys):
    page = work / "pages" / "1.png"
    for more in ([], ["--save-map", work / "kept.png"]):
        call("generate", page, "What?", "--model", folder, "--json", "--keep", "25%", *more, *SHORT)
    plain, drawn = rows(capsys.readouterr().out)
    assert plain | {"seconds": 0} == drawn | {"seconds": 0}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--keep", "2"], "'2': expected a share such as 25% or 0.25, or a number of tokens such as 300t"),
        (["--keep", "0%"], "'0%': expected a share"),
        (["--keep", "1.5"], "'1.5': expected a share"),
        (["--method", "best"], "invalid choice: 'best'"),
        (["--method", "none", "--keep", "25%"], "--method none: nothing is pruned"),
        (["--method", "oracle"], "oracle needs the extra 'evidence'"),
        (["--option", "rows=all"], "rows='all': expected one of masked"),
        (["--option", "row=masked"], "'row=masked': expected NAME=VALUE with NAME one of positions"),
        (["--option", "layers=[9]"], "layer 9 is out of range, expected 1..3"),
        (["--method", "maskkv", "--option", "per_head=true"], "maskkv, per_head=True: each head keeps keys"),
        (["--length", "8", "--steps", "3", "--block-length", "4"], "steps=3: expected a multiple of the 2 blocks"),
        (["--steps", "none"], "'none': expected a whole number, 1 or more"),
        (["--temperature", "hot"], "'hot': expected a number"),
        (["--save-map", "kept.txt"], "--save-map kept.txt: expected a picture's name"),
        (["--model", "mini/none"], "'mini/none': expected a folder"),
        (["--length", "4", "--steps", "2", "--stop", ""], "expected a tuple of non-empty texts"),
    ],
)  # fmt: skip
def test_words_are_refused_before_weights_are_loaded(folder, work, capsys, monkeypatch, argv, message):
    monkeypatch.setattr(LladaV, "from_folder", lambda *_, **__: pytest.fail("weights were loaded"))
    model = [] if "--model" in argv else ["--model", folder]
    assert message in refused(capsys, "generate", work / "pages" / "0.png", "What?", *model, *argv)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "expected a line for each question"),
        ("{}\n", "line 1: no field 'image'"),
        ('{"image": null}\n', "line 1: question None, expected a text here"),
        ('\n[1]\n', "line 2: expected a JSON object, found a list"),
        ('{"image": 5, "question": "?"}\n', "line 1: image 5, expected a path"),
        ('{"image": null, "question": "?", "id": []}\n', r"line 1: id [], expected a text or a whole number"),
        ('{"image": null, "question": "?", "evidence": [1]}\n', "line 1: evidence [1], expected a list of boxes"),
        ('{"image": null, "question": "?", "id": 1}\n' * 2, "id 1 comes twice with the same question"),
        ('{"image": null, "question": "<image>?"}\n', "the question has 1 <image> markers, but 0 images"),
    ],
)
def test_a_file_of_questions_is_checked_whole(folder, tmp_path, capsys, content, message):
    (tmp_path / "q.jsonl").write_text(content)
    assert message in refused(capsys, "generate", tmp_path / "q.jsonl", "--model", folder)


def test_images_are_checked_before_weights(folder, work, capsys):
    assert "nix.png: expected an image file, found nothing" in refused(
        capsys, "generate", work / "nix.png", "?", "--model", folder
    )
    assert "expected a QUESTION behind it" in refused(capsys, "generate", work / "pages", "--model", folder)
    (work / "empty").mkdir()
    assert "expected images" in refused(capsys, "generate", work / "empty", "?", "--model", folder)


def test_an_interrupted_run_says_how_to_go_on(folder, work, capsys, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(generate, "answered", stop)
    assert call("generate", work / "q.jsonl", "?", "--model", folder, "--out", work / "out.jsonl") == 130
    assert "interrupted; what is in" in capsys.readouterr().err


def test_budgets_are_read_and_written():
    assert [words.budget(text) for text in ("25%", "0.25", "12.5%", "1.0", ".5", "300t")] == [
        Share(0.25), Share(0.25), Share(0.125), Share(1.0), Share(0.5), Count(300)]  # fmt: skip
    assert [words.budget_word(keep) for keep in (Share(0.25), Share(0.125), Count(3), None)] == [
        "25%", "12.5%", "3t", None]  # fmt: skip


def test_tokens_are_those_of_the_layout(folder, work, capsys, model):
    page = work / "pages" / "2.png"
    assert call("tokens", page, "100x40", "--model", folder, "--question", "What?", "--json") == 0
    first, second = rows(capsys.readouterr().out)
    for row, size in ((first, Image.open(page).size), (second, (100, 40))):
        answer = model.generate(picture(*size), "What?", length=2, steps=1)
        assert row["visual_tokens"] == answer.visual_tokens == row["thumbnail"] + row["tiles"] + row["newlines"]
        assert row["prompt_tokens"] == int((answer.layout.kind == 1).sum())
    call("tokens", work / "pages", "--layout", "llada_v", "--question-tokens", "27")
    said = capsys.readouterr().out
    assert said.count(".png") == 3 and said.endswith("prompt: template and question\n") and "  80  " in said


def test_published_layouts_have_the_known_counts():
    found = {name: int((true_layout(name, 1024, 1024).kind == VISUAL).sum()) for name in HEAD_ROWS}
    assert found == {"llada_v": 3699, "lavida": 1008}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["12y"], "12y: expected an image file, found nothing; or a size such as 1024x768"),
        (["0x4"], "0x4: expected an image file"),
        (["9x9", "--layout", "dream"], "invalid choice: 'dream'"),
        (["9x9", "--layout", "llada_v", "--question", "?"], "--question: no tokenizer is shipped"),
        (["9x9", "--question-tokens", "5"], "--question-tokens 5: with --model give --question"),
    ],
)
def test_tokens_refuses(capsys, argv, message):
    assert message in refused(capsys, "tokens", *argv)


def test_flops_of_the_published_shape(capsys):
    words_ = ["flops", "--visual", "3699", "--prompt", "80", "--response", "32", "--steps", "16", "--keep", "25%"]
    assert call(*words_, "--json") == 0
    (found,) = rows(capsys.readouterr().out)
    official = found["official_code"]
    assert sum(official[name] for name in ("first", "later", "head", "scoring")) == official["total"]
    assert official["latency_bound"] == 1 - official["share"] == pytest.approx(0.704, abs=0.001)
    assert found["this_package"]["share"] == pytest.approx(official["share"], abs=0.005)
    assert found["tokens_fed"] == 3811 + 15 * (3699 // 4 + 112)
    assert call(*words_) == 0
    said = capsys.readouterr().out
    assert "TFLOPs" in said and "latency can fall by up to" in said and "70.4%" in said


def test_flops_of_no_pruning_and_of_a_folder(folder, capsys):
    words_ = ["flops", "--visual", "30", "--prompt", "5", "--response", "4", "--steps", "2", "--shape", folder]
    assert call(*words_, "--method", "none", "--json") == 0
    (found,) = rows(capsys.readouterr().out)
    assert found["this_package"]["share"] == found["official_code"]["share"] == 1
    assert "layer=3: expected a layer in 1..2" in refused(
        capsys, *words_, "--method", "llada_fastv", "--option", "layer=3"
    )


def test_folders_tell_their_shape_without_weights(folder, model):
    (folder / "model.safetensors").rename(folder / "away")
    try:
        known = unloaded(str(folder))
        assert (known.name, known.layers) == ("llada_v", model.host.layers)
        assert text_config(str(folder)).hidden_size == model.host.config.text_config.hidden_size
    finally:
        (folder / "away").rename(folder / "model.safetensors")


def test_help_names_every_command(capsys):
    for argv in ([], ["generate"], ["tokens"], ["flops"]):
        with pytest.raises(SystemExit) as exit_:
            call(*argv, "--help")
        assert exit_.value.code == 0
        assert "examples:" in capsys.readouterr().out
    assert "required: COMMAND" in refused(capsys)
