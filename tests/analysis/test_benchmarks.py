"""The generated benchmarks: deterministic, disjoint splits, true answers, evidence boxes and labels."""

import functools
import re
from collections import Counter
from itertools import combinations

import numpy as np
import pytest

from analysis.benchmarks import FAMILIES, SPLITS, Protocol, blank, data_hash, get, objects, split_of, unasked
from analysis.benchmarks.base import LETTERS
from analysis.benchmarks.canvas import (
    ABOVE,
    BLANK,
    CELL,
    COUNT,
    CROP,
    END,
    FIELD,
    GLYPH,
    IGNORE,
    LEFT,
    NO_FIELD,
    NO_OBJECT,
    OBJECT,
    PLANES,
    Canvas,
    bands,
    shape_mask,
)
from analysis.benchmarks.concepts import COLOURS, CONCEPTS, KEYS, NUMBERS, OBJECT_ID, OBJECTS, SHAPES, plural
from analysis.benchmarks.glyphs import CHARACTERS, VALUE_ALPHABET, face
from analysis.training.tokenizer import build_tokenizer

NAMES = tuple(FAMILIES)
SPELLED = ("doc", "info", "chart")
CHOSEN = ("diagram", "choice")
PLACED = ("scene", "perception", "choice")
ONE_TOKEN = tuple(name for name in NAMES if name not in SPELLED)


@functools.cache
def pages(name, split="train", n=150):
    return [get(name).page(split, 2, index) for index in range(n)]


def placed(monkeypatch, name, n):
    """(page, its things) of a family's test pages that `objects.place` made."""
    scenes, real = [], objects.place
    monkeypatch.setattr(objects, "place", lambda *args: scenes.append(real(*args)) or scenes[-1])
    for index in range(n):
        scenes.clear()
        page = get(name).page("test", 3, index)
        if scenes:
            yield page, scenes[-1].things


def boxes(page):
    return {box for query in page.queries for box in query.evidence}


def owners(page):
    """{key: object} as the labels tell it: every cell of a field shows or labels one and the same object."""
    field, shown = page.labels[FIELD], page.labels[OBJECT]
    both = (field != IGNORE) & (field != NO_FIELD) & (shown != NO_OBJECT)
    pairs = {(KEYS[f], OBJECTS[o]) for f, o in zip(field[both], shown[both])}
    assert len(dict(pairs)) == len(pairs) == len({name for _, name in pairs})
    return dict(pairs)


@pytest.mark.parametrize("name", NAMES)
def test_sample_does_not_depend_on_how_many_are_asked_for(name):
    few, many = get(name).samples("dev", 3, seed=5), get(name).samples("dev", 6, seed=5)
    assert data_hash(few) == data_hash(many[:3])
    assert data_hash([get(name).sample("dev", 5, 4)]) == data_hash(many[4:5])
    assert data_hash(few) != data_hash(get(name).samples("dev", 3, seed=6))
    assert data_hash(few) != data_hash(get(name).samples("test", 3, seed=5))


@pytest.mark.parametrize("name", SPELLED)
def test_spelled_answers_of_the_splits_are_disjoint(name):
    shown = {split: {query.answer for page in pages(name, split) for query in page.queries} for split in SPLITS}
    for split, values in shown.items():
        assert {split_of(value) for value in values} == {split}
        if name == "chart":
            assert all(10 <= int(value) <= 999 for value in values)
        else:
            assert all(4 <= len(value) <= 6 and set(value) <= set(VALUE_ALPHABET) for value in values)
    assert not any(shown[a] & shown[b] for a, b in combinations(SPLITS, 2))


@pytest.mark.parametrize("name", NAMES)
def test_a_page_shows_nothing_that_its_split_refuses(name):
    """Of spelled answers every value is accepted, of the others the last scene, the one that is drawn."""
    asked = []
    for index in range(20):
        asked.clear()
        page = get(name).draw(np.random.default_rng(index), get(name).sizes[0],
                              lambda content: asked.append(content) or split_of(content) == "dev")
        if name in SPELLED:
            assert {query.answer for query in page.queries} <= {each for each in asked if split_of(each) == "dev"}
        assert split_of(asked[-1]) == "dev"


@pytest.mark.parametrize("name", ONE_TOKEN)
def test_no_sample_is_in_two_splits(name):
    drawn = {split: {sample.image.tobytes() for sample in get(name).samples(split, 200)} for split in SPLITS}
    assert {len(found) for found in drawn.values()} == {200}
    assert not any(drawn[a] & drawn[b] for a, b in combinations(SPLITS, 2))


@pytest.mark.parametrize("name", PLACED)
def test_scenes_belong_to_the_split(name, monkeypatch):
    for page, things in placed(monkeypatch, name, 60):
        assert split_of(repr((page.size, list(things)))) == "test"


@pytest.mark.parametrize("name", NAMES)
def test_a_sample_is_one_query_of_its_page(name):
    for sample in get(name).samples("test", 30, seed=1):
        page = get(name).page("test", 1, sample.index)
        assert np.array_equal(page.pixels, np.asarray(sample.image)) and sample.image.mode == "RGB"
        assert (sample.kind, sample.question, sample.unasked, sample.answer, sample.evidence) in {
            (query.kind, query.question, query.unasked, query.answer, query.evidence) for query in page.queries}


@pytest.mark.parametrize("name", NAMES)
def test_queries_name_concepts_and_agree_with_each_other(name):
    for page in pages(name):
        told = {(query.stem, query.content or query.answer) for query in page.queries}
        assert len(dict(told)) == len(told), "one question, two answers"
        for query in page.queries:
            assert query.subject in CONCEPTS and query.evidence
            assert query.content is None if name in SPELLED else query.content in CONCEPTS


@pytest.mark.parametrize("name", NAMES)
def test_unasked_keeps_the_options_and_blank_shows_nothing(name):
    for sample in get(name).samples("dev", 10):
        bare = unasked(sample)
        assert bare.question.count("?") == 1 and sample.question.endswith(bare.question)
        assert bare.question.startswith("?") and bare.question.count("\n") == (4 if name in CHOSEN else 0)
        assert (bare.image, bare.answer) == (sample.image, sample.answer)
        empty = blank(sample)
        assert (empty.image.size, empty.question) == (sample.image.size, sample.question)
        assert len(empty.image.getcolors()) == 1


@pytest.mark.parametrize("name", NAMES)
def test_evidence_is_inside_one_crop_and_covers_all_that_is_drawn(name):
    for page in pages(name):
        width, height = page.size
        covered = np.zeros((height, width), bool)
        for x0, y0, x1, y1 in boxes(page):
            assert any(left <= x0 < x1 <= right for left, right in bands(width))
            assert any(top <= y0 < y1 <= bottom for top, bottom in bands(height))
            assert name not in ("doc", "info") or not covered[y0:y1, x0:x1].any(), "fields overlap"
            covered[y0:y1, x0:x1] = True
        paper = np.median(page.pixels.reshape(-1, 3), 0)
        drawn = np.abs(page.pixels - paper).max(-1) > 90
        assert drawn.any() and not (drawn & ~covered).any()
        assert name not in SPELLED or all(drawn[y0:y1, x0:x1].any() for x0, y0, x1, y1 in boxes(page))


@pytest.mark.parametrize("name", NAMES)
def test_size_and_number_of_things_as_asked_for(name):
    for size in get(name).sizes:
        for index in range(60):
            page = get(name).page("train", 4, index, size, (2, 3))
            assert page.size == size and page.labels.dtype == np.int16
            assert page.labels.shape == (len(PLANES), size[1] // CELL, size[0] // CELL)
            assert 2 <= len(boxes(page)) <= 3


@pytest.mark.parametrize("name", NAMES)
def test_pages_lie_on_the_patch_grid_of_their_crops(name):
    for size in get(name).sizes:
        for side in size:
            assert side % CELL == 0 and (-side % CROP) % (2 * CELL) == 0


@pytest.mark.parametrize("name", NAMES)
def test_labels_stay_within_their_classes(name):
    for page in pages(name):
        for plane, classes in zip(page.labels, PLANES.values()):
            known = plane[page.labels[GLYPH] != IGNORE]
            assert 0 <= known.min() and known.max() < classes
        assert ((page.labels == IGNORE).all(0) == (page.labels == IGNORE).any(0)).all()


@pytest.mark.parametrize("name", SPELLED)
def test_labels_read_back_every_value(name):
    """Following index 0, 1, ... of a field through the labels spells its value and its end."""
    for page in pages(name, n=300):
        glyph, place, field = page.labels[:OBJECT]
        for query in page.queries:
            if query.subject not in KEYS:
                continue
            mine = field == KEYS.index(query.subject)
            for index, character in enumerate(query.answer):
                assert set(glyph[mine & (place == index)]) == {1 + CHARACTERS.index(character)}
            assert set(glyph[mine & (place == len(query.answer))]) <= {END}
            text = {CHARACTERS[each - 1] for each in glyph[mine] if each not in (BLANK, END)}
            assert text <= set(query.subject + query.answer)


@pytest.mark.parametrize("gap", range(3, 9))
def test_the_blank_after_a_value_gives_way_to_the_next_value(gap):
    for start in range(8):
        canvas = Canvas(np.random.default_rng(0), (96, 16))
        pen = canvas.text(start, 1, "42", face("mono"), 0, True)
        canvas.text(pen + gap, 1, "73", face("mono"), 1, True)
        for field, word in enumerate(("42", "73")):
            glyph, place = canvas.labels[:2, canvas.labels[FIELD] == field]
            for index, character in enumerate(word):
                assert set(glyph[place == index]) == {1 + CHARACTERS.index(character)}


def test_a_bar_has_one_number_by_key_and_by_colour():
    for page in pages("chart"):
        told = {query.subject: (query.answer, query.evidence) for query in page.queries}
        assert all(told[key] == told[bar] for key, bar in owners(page).items())
        assert len(told) == len(page.queries) == 2 * len(owners(page))


@pytest.mark.parametrize("name", CHOSEN)
def test_one_of_four_options_is_right(name):
    letters = Counter()
    for page in pages(name, n=200):
        for query in page.queries:
            assert len(set(query.options)) == len(LETTERS) == len(query.options)
            assert query.options[LETTERS.index(query.answer)] == query.content
            shown = "".join(f"\n{letter}. {option}" for letter, option in zip("ABCD", query.options))
            assert query.question == query.stem + shown
            letters[query.answer] += 1
    assert letters.total() > 400 and set(letters) == set(LETTERS)
    assert all(0.2 < count / letters.total() < 0.3 for count in letters.values())


@pytest.mark.parametrize("name", CHOSEN)
def test_labels_and_parts_are_what_the_pixels_say(name):
    """The answers follow from the labels: which key goes with which part or bar."""
    checked = 0
    for page in pages(name, n=200):
        part_of = owners(page)
        key_of = {part: key for key, part in part_of.items()}
        for query in page.queries:
            if query.kind in ("label", "part", "bar"):
                assert query.content == (part_of if query.kind == "part" else key_of)[query.subject]
                assert query.subject in query.stem
                checked += 1
    assert checked > 200


def truth(things, stem):
    """The answer to a question about a scene, from the names and boxes of its things alone."""
    shape_of = {thing.name: thing.name.split()[1] for thing in things}
    count = Counter(shape_of.values())
    box = {thing.name: thing.box for thing in things}

    def colour(shape):
        (name,) = [name for name, its in shape_of.items() if its == shape]
        return name.split()[0]

    def nearest(name, axis):
        """The last thing before this one along an axis, among those in line with it."""
        in_line = [other for other in box if other != name and abs(box[other][1 - axis] - box[name][1 - axis]) < 12
                   and box[other][axis] < box[name][axis]]
        return max(in_line, key=lambda other: box[other][axis])

    def counted(number, noun):
        assert noun in (SHAPES if number == "1" else [plural(shape) for shape in SHAPES])
        return count[next(shape for shape in SHAPES if noun in (shape, plural(shape)))] == int(number)

    said = {True: "yes", False: "no"}
    rules = {
        r"How many (\w+) are there\?": lambda noun: str(count[next(s for s in SHAPES if plural(s) == noun)]),
        r"What colour is the (\w+)\?": colour,
        r"What is left of the (\w+ \w+)\?": lambda name: nearest(name, 0),
        r"What is above the (\w+ \w+)\?": lambda name: nearest(name, 1),
        r"Is there a (\w+ \w+)\?": lambda name: said[name in box],
        r"(?:Is|Are) there (\d) (\w+)\?": lambda number, noun: said[counted(number, noun)],
        r"Is the (\w+) (\w+)\?": lambda shape, asked: said[colour(shape) == asked],
    }
    (answer,) = [rule(*match.groups()) for pattern, rule in rules.items() if (match := re.fullmatch(pattern, stem))]
    return answer


@pytest.mark.parametrize("name", PLACED)
def test_answers_about_scenes_are_true(name, monkeypatch):
    kinds = Counter()
    for page, things in placed(monkeypatch, name, 200):
        for query in page.queries:
            right = truth(things, query.stem)
            assert right == (query.content if name == "choice" else query.answer)
            assert name == "perception" or query.content == right
            kinds[query.kind] += 1
    assert set(kinds) >= {"count", "colour"} and len(kinds) == 3


@pytest.mark.parametrize("name", PLACED)
def test_things_are_apart_and_labelled_with_their_neighbours(name, monkeypatch):
    for page, things in placed(monkeypatch, name, 100):
        shown = np.zeros(page.size[::-1], int)
        count = Counter(thing.shape for thing in things)
        assert len({thing.name for thing in things}) == len(things)
        at = {(thing.column, thing.row): OBJECT_ID[thing.name] for thing in things}
        for thing in things:
            x0, y0, x1, y1 = thing.box
            shown[y0:y1, x0:x1] += 1
            inside = page.pixels[y0:y1, x0:x1][shape_mask(thing.shape, x1 - x0) == 255]
            assert np.abs(inside.mean(0) - COLOURS[thing.colour]).max() < 25
            mine = page.labels[OBJECT] == OBJECT_ID[thing.name]
            rows, columns = np.nonzero(mine)
            assert mine.any() and y0 // CELL <= rows.min() and rows.max() <= (y1 - 1) // CELL
            assert x0 // CELL <= columns.min() and columns.max() <= (x1 - 1) // CELL
            for plane, true in ((LEFT, at.get((thing.column - 1, thing.row), NO_OBJECT)),
                                (ABOVE, at.get((thing.column, thing.row - 1), NO_OBJECT)),
                                (COUNT, NUMBERS.index(str(count[thing.shape]))), (GLYPH, BLANK), (FIELD, NO_FIELD)):
                assert set(page.labels[plane][mine]) == {true}
        assert shown.max() == 1, "things overlap"
        assert set(page.labels[OBJECT].flat) - {IGNORE, NO_OBJECT} == set(at.values())


def test_yes_and_no_are_balanced():
    said = {}
    for index in range(1000):
        for query in get("perception").page("train", 5, index).queries:
            said.setdefault(query.kind, []).append(query.answer == "yes")
    assert set(said) == {"existence", "count", "colour"}
    for kind, yes in said.items():
        assert len(yes) > 600 and 0.45 < np.mean(yes) < 0.55, (kind, np.mean(yes))


@pytest.mark.parametrize("name", NAMES)
def test_the_mini_tokenizer_knows_every_question_and_answer(name):
    tokenizer = build_tokenizer()
    for page in pages(name):
        for text in {text for query in page.queries for text in (query.question, query.unasked, query.answer)}:
            ids = tokenizer(text, add_special_tokens=False)["input_ids"]
            assert tokenizer.unk_token_id not in ids and tokenizer.decode(ids) == text
        if name in ONE_TOKEN:
            assert all(len(tokenizer.tokenize(query.answer)) == 1 for query in page.queries)


def test_protocol_and_errors():
    protocols = {name: Protocol(2, 2, 2) for name in ONE_TOKEN} | {
        "doc": Protocol(32, 32, 16), "info": Protocol(32, 32, 16), "chart": Protocol(16, 16, 16)}
    assert {name: family.protocol for name, family in FAMILIES.items()} == protocols
    with pytest.raises(ValueError, match="'nope'.*doc, info, chart, diagram, scene, perception, choice"):
        get("nope")
    for draw in (get("doc").samples, get("doc").page, get("doc").sample):
        with pytest.raises(ValueError, match="'val'.*train, dev, test"):
            draw("val", 1, 1)
    with pytest.raises(ValueError, match="0.*at least 1"):
        get("doc").samples("dev", 0)


def test_the_command_names_every_family_and_its_hash(monkeypatch, capsys):
    from analysis.benchmarks import __main__ as command

    monkeypatch.setattr("sys.argv", ["benchmarks", "-n", "2"])
    command.main()
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(NAMES)
    assert lines[0].endswith(data_hash(get("doc").samples("test", 2)))
