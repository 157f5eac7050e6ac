"""What is to be answered: one image, a folder of images, or a JSON Lines file; checked whole before any work."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from redvtp.models.prompts import user_text

SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Item:
    """One question.

    Attributes:
        id: a text or a whole number; with the question it names the answer among those of one input.
        images: paths; none for text only.
        evidence: boxes x0, y0, x1, y1 in pixels, for methods that ask for them; None where not given.
    """

    id: str | int
    question: str
    images: tuple[Path, ...]
    evidence: tuple[tuple[float, ...], ...] | None = None

    @cached_property
    def content(self) -> str | None:
        """A hash of images and evidence, None where an image cannot be read. Names and folders do not count: images
        of the same name may differ, and images that were moved are the same."""
        try:
            images = [hashlib.sha256(path.read_bytes()).hexdigest() for path in self.images]
        except OSError:
            return None
        return hashlib.sha256(json.dumps([images, self.evidence]).encode()).hexdigest()[:16]

    @property
    def key(self) -> tuple[str | int, str, str | None]:
        """What tells answers apart, also those to other inputs in the same file."""
        return self.id, self.question, self.content


def is_list(path: Path) -> bool:
    """Whether a name is that of a JSON Lines file."""
    return path.suffix.lower() in (".jsonl", ".ndjson")


def images_in(folder: Path) -> list[Path]:
    """Image files directly inside a folder, by name. Raises ValueError where there is none."""
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise ValueError(f"{folder}: expected images ({', '.join(SUFFIXES)}) in this folder, found none")
    return found


def read_items(source: str, question: str | None) -> list[Item]:
    """The questions that IMAGE and QUESTION ask for.

    Raises:
        ValueError: naming the file, the line where there is one, and what was expected.
    """
    path = Path(source)
    if is_list(path):
        items = listed(path, question)
    elif question is None:
        raise ValueError(f"{source}: expected a QUESTION behind it (a .jsonl file may hold questions of its own)")
    elif path.is_dir():
        items = [Item(image.name, question, (image,)) for image in images_in(path)]
    else:
        items = [Item(path.name, question, (path,))]
    for item in items:
        if not item.question.strip():
            raise ValueError(f"{item.id}: the question is empty; expected a text")
        user_text(item.question, len(item.images))
    seen: set[tuple] = set()
    for item in items:
        name = (item.id, item.question)
        if name in seen:
            raise ValueError(f"{source}: id {item.id!r} comes twice with the same question; expected ids of their own")
        seen.add(name)
    return items


def listed(path: Path, question: str | None) -> list[Item]:
    """The lines of a JSON Lines file; image paths are relative to it."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected a JSON Lines file that can be read ({error})") from None
    items = [item_of(line, f"{path}, line {n}", n, path.parent, question)
             for n, line in enumerate(lines, 1) if line.strip()]  # fmt: skip
    if not items:
        raise ValueError(f"{path}: expected a line for each question, found none")
    return items


def item_of(line: str, where: str, number: int, folder: Path, question: str | None) -> Item:
    """One line: image (a path, a list of them, or null), question, optional id and evidence; other fields are left."""
    try:
        given = json.loads(line)
    except ValueError as error:
        raise ValueError(f"{where}: expected a JSON object ({error})") from None
    if not isinstance(given, dict):
        raise ValueError(f"{where}: expected a JSON object, found a {type(given).__name__}")
    if "image" not in given:
        raise ValueError(f"{where}: no field 'image', expected a path, a list of paths, or null for text only")
    asked = given.get("question", question)
    if not isinstance(asked, str):
        raise ValueError(f"{where}: question {asked!r}, expected a text here or a QUESTION on the command line")
    name = given.get("id", number)
    if isinstance(name, bool) or not isinstance(name, (str, int)):
        raise ValueError(f"{where}: id {name!r}, expected a text or a whole number")
    image = given["image"]
    images = [] if image is None else image if isinstance(image, list) else [image]
    if not all(isinstance(one, str) and one for one in images):
        raise ValueError(f"{where}: image {image!r}, expected a path, a list of paths, or null for text only")
    return Item(name, asked, tuple(folder / one for one in images), boxes(given.get("evidence"), where))


def boxes(given: Any, where: str) -> tuple[tuple[float, ...], ...] | None:
    """Evidence boxes, or None where there are none. Raises ValueError for anything else."""
    if given is None:
        return None
    right = isinstance(given, list) and all(
        isinstance(box, list) and len(box) == 4 and all(isinstance(edge, (int, float)) for edge in box) for box in given
    )
    if not right:
        raise ValueError(f"{where}: evidence {given!r}, expected a list of boxes [x0, y0, x1, y1] in pixels")
    return tuple(tuple(box) for box in given)
