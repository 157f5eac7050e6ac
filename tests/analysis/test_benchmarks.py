"""The generated benchmarks: deterministic, disjoint splits, true evidence boxes."""

import numpy as np
import pytest

from analysis.benchmarks import FAMILIES, Protocol, data_hash, get, split_of
from analysis.benchmarks.glyphs import BLANK, CELL, CHARACTERS, END, IGNORE, KEYS, VALUE_ALPHABET, bands

NAMES = tuple(FAMILIES)


@pytest.mark.parametrize("name", NAMES)
def test_sample_does_not_depend_on_how_many_are_asked_for(name):
    few, many = get(name).samples("dev", 3, seed=5), get(name).samples("dev", 6, seed=5)
    assert data_hash(few) == data_hash(many[:3])
    assert data_hash([get(name).sample("dev", 5, 4)]) == data_hash(many[4:5])
    assert data_hash(few) != data_hash(get(name).samples("dev", 3, seed=6))
    assert data_hash(few) != data_hash(get(name).samples("test", 3, seed=5))


@pytest.mark.parametrize("name", NAMES)
def test_answers_of_the_splits_are_disjoint(name):
    shown = {split: {field.value for i in range(150) for field in get(name).page(split, 0, i).fields}
             for split in ("train", "dev", "test")}
    for split, values in shown.items():
        assert {split_of(value) for value in values} == {split}
        assert all(4 <= len(value) <= 7 and set(value) <= set(VALUE_ALPHABET) for value in values)
    assert not shown["train"] & shown["test"] and not shown["train"] & shown["dev"] and not shown["dev"] & shown["test"]


@pytest.mark.parametrize("name", NAMES)
def test_question_and_answer_belong_to_one_field(name):
    for sample in get(name).samples("test", 30, seed=1):
        page = get(name).page("test", 1, sample.index)
        assert np.array_equal(page.pixels, np.asarray(sample.image)) and sample.image.mode == "RGB"
        match = [field for field in page.fields if sample.question == f"What is {field.key}?"]
        assert [(sample.answer, sample.evidence)] == [(field.value, field.evidence) for field in match]


@pytest.mark.parametrize("name", NAMES)
def test_evidence_is_inside_and_covers_exactly_its_field(name):
    """Every inked pixel of the page lies in some field's boxes, boxes do not overlap, and each holds its glyphs."""
    for index in range(60):
        page = get(name).page("train", 2, index)
        width, height = page.size
        owner = np.zeros((height, width), int)
        for field in page.fields:
            for x0, y0, x1, y1 in field.evidence:
                assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height
                assert not owner[y0:y1, x0:x1].any(), "boxes overlap"
                owner[y0:y1, x0:x1] = 1 + page.fields.index(field)
        tone = np.median(page.pixels.reshape(-1, 3), 0)
        ink = np.abs(page.pixels.astype(float) - tone).max(-1) > 90
        assert ink.any() and not (ink & (owner == 0)).any()
        for place, field in enumerate(page.fields, 1):
            glyphs = page.labels[0][(page.labels[2] == KEYS.index(field.key)) & (page.labels[0] != IGNORE)]
            text = {CHARACTERS[glyph - 1] for glyph in glyphs if glyph not in (BLANK, END)}
            assert set(field.value) <= text <= set(field.key + field.value)
            assert (ink & (owner == place)).any()


@pytest.mark.parametrize("name", NAMES)
def test_labels_read_back_every_value(name):
    """Following index 0, 1, ... of a field through the dense labels spells its value and its end."""
    for index in range(60):
        page = get(name).page("train", 3, index)
        glyph, place, field = page.labels
        for drawn in page.fields:
            mine = field == KEYS.index(drawn.key)
            for i, character in enumerate(drawn.value):
                assert set(glyph[mine & (place == i)]) == {1 + CHARACTERS.index(character)}
            assert set(glyph[mine & (place == len(drawn.value))]) <= {END}


@pytest.mark.parametrize("name", NAMES)
def test_text_never_crosses_a_horizontal_crop_edge(name):
    for index in range(60):
        page = get(name).page("train", 4, index)
        spans = bands(page.size[1])
        for field in page.fields:
            for _, y0, _, y1 in field.evidence:
                assert any(top <= y0 and y1 <= bottom + CELL // 2 for top, bottom in spans)


def test_protocol_and_errors():
    for benchmark in FAMILIES.values():
        assert benchmark.protocol == Protocol(32, 32, 16)
    with pytest.raises(ValueError, match="'nope'.*doc, info"):
        get("nope")
    with pytest.raises(ValueError, match="'val'.*train, dev, test"):
        get("doc").samples("val", 1)
    with pytest.raises(ValueError, match="0.*at least 1"):
        get("doc").samples("dev", 0)
