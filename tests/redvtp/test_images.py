"""Reading images: what must work, and one clear line for what cannot."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from redvtp import Prompt
from redvtp.images import ImageError, read_image
from tests.tiny import picture


def encoded(kind: str = "PNG", size=(20, 12)) -> bytes:
    buffer = io.BytesIO()
    picture(*size).save(buffer, kind)
    return buffer.getvalue()


def test_path_pil_image_and_array_are_the_same(tmp_path):
    image = picture(20, 12)
    image.save(tmp_path / "a.png")
    expected = np.asarray(image)
    for source in (image, tmp_path / "a.png", str(tmp_path / "a.png"), expected):
        read = read_image(source)
        assert read.mode == "RGB"
        assert np.array_equal(np.asarray(read), expected)


@pytest.mark.parametrize("mode", ["CMYK", "L", "LA", "P", "RGBA", "1", "I;16", "I", "YCbCr", "HSV"])
@pytest.mark.parametrize("size", [(7, 5), (1, 9), (9, 1)])
def test_every_mode_becomes_rgb(mode, size):
    image = Image.new(mode, size) if mode.startswith("I") else picture(*size).convert(mode)
    read = read_image(image)
    assert (read.mode, read.size) == ("RGB", size)


def test_16_bit_grey_is_scaled_not_clipped(tmp_path):
    values = np.linspace(0, 65535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "deep.png")
    read = np.asarray(read_image(tmp_path / "deep.png"))
    assert np.array_equal(read[..., 0], np.round(values / 257).astype(np.uint8))
    assert len(np.unique(read)) > 60


def test_grey_arrays_and_transparent_palettes():
    assert read_image(np.full((4, 6), 9, np.uint8)).size == (6, 4)
    palette = picture(8, 8).quantize(4)
    palette.info["transparency"] = b"\x00\x80\xff\x00"
    assert read_image(palette).mode == "RGB"


def one_line(caught, *words) -> None:
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"not an image at all", "no known format"),
        (encoded()[:60], "corrupt or truncated"),
        (encoded("JPEG", (64, 64))[:700], "corrupt or truncated"),
        (encoded()[:40] + b"\x00" * 40 + encoded()[80:], "image"),
    ],
)
def test_broken_files_are_named(tmp_path, content, word):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(ImageError) as caught:
        read_image(path)
    one_line(caught, "broken.png", word)


def test_missing_files_and_folders_are_named(tmp_path):
    for path, word in ((tmp_path / "none.png", "nothing"), (tmp_path, "a folder")):
        with pytest.raises(ImageError) as caught:
            read_image(path)
        one_line(caught, str(path), word)


def test_images_above_the_bomb_limit_are_refused(tmp_path, monkeypatch):
    picture(40, 40).save(tmp_path / "big.png")
    for limit in (1000, 500):  # Pillow warns above the limit and fails above twice the limit
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        for source in (tmp_path / "big.png", picture(40, 40)):
            with pytest.raises(ImageError) as caught:
                read_image(source)
            one_line(caught, f"at most {limit} pixels")


@pytest.mark.parametrize(
    "array",
    [np.zeros((4, 4), np.float32), np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 7), np.uint8),
     np.zeros((4, 4, 1), np.uint8), np.zeros((1, 4, 4, 3), np.uint8), np.zeros(5, np.uint8)],
    ids=lambda array: str(array.shape),
)  # fmt: skip
def test_arrays_of_another_kind_are_refused(array):
    with pytest.raises(ImageError, match="expected a uint8 array"):
        read_image(array)


@pytest.mark.parametrize("source", [7, b"bytes", [1, 2], None])
def test_other_things_are_refused(source):
    with pytest.raises(ImageError, match="expected a path, a PIL image or a uint8 array"):
        read_image(source)


def test_a_bad_image_stops_a_batch_before_any_forward(model, tmp_path, monkeypatch):
    (tmp_path / "empty.png").write_bytes(b"")
    monkeypatch.setattr(type(model.host), "forward", lambda *_, **__: pytest.fail("a forward ran"))
    monkeypatch.setattr(type(model.host), "_encode_tiled", lambda *_, **__: pytest.fail("the tower ran"))
    with pytest.raises(ImageError, match="empty.png"):
        model.generate_batch([Prompt("a", [picture(9, 9)]), Prompt("b", [tmp_path / "empty.png"])], length=4, steps=2)


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 90), (20_000, 3), (3, 20_000)])
def test_extreme_shapes_work_from_end_to_end(model, size):
    answer = model.generate(Image.new("RGB", size, (200, 30, 60)), "What?", length=2, steps=2)
    assert len(answer.kept) > 0
