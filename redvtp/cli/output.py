"""Answers as JSON Lines: one a line, written at once, and taken up again where a run was stopped."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any, TextIO

Key = tuple[Any, str, str | None]
BEGINNING = re.compile(r'\{"id": (-?\d+|"([^"\\]|\\.)*"), "question": "')
BEGINNINGS = ('{"id": 0, "question": "', '{"id": "", "question": "')


class Output:
    """Where answers go: a file that is appended to, or standard output.

    Args:
        path: None for standard output, which cannot be taken up again.
        run: what was asked for (model, method, settings); it stands in every line, and a file that holds answers
            of another run is refused.

    Nothing is written before the file is entered: what may yet be refused changes no file.

    Raises:
        ValueError: naming the file and line, and what was expected.
    """

    def __init__(self, path: Path | None, run: dict[str, Any]) -> None:
        self.path, self.run = path, run
        self.done: set[Key] = set()
        self.cut_off, self.unended = 0, False
        if path is not None and path.exists():
            self.done, self.cut_off, self.unended = finished(path, run)

    def __enter__(self) -> Output:
        self.file: TextIO = sys.stdout
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.path.open("a", encoding="utf-8", newline="\n")
            if self.cut_off:
                self.file.truncate(self.path.stat().st_size - self.cut_off)
            if self.unended:
                self.file.write("\n")
        return self

    def __exit__(self, *_: object) -> None:
        if self.path is not None:
            self.file.close()

    def write(self, row: dict[str, Any]) -> None:
        """Append one answer."""
        self.file.write(json.dumps(row | {"run": self.run}, ensure_ascii=False) + "\n")
        self.file.flush()


def finished(path: Path, run: dict[str, Any]) -> tuple[set[Key], int, bool]:
    """Keys of the answers in a file, the bytes of a last line that was cut off in the middle, and whether the last
    line is whole but for its end.

    Raises:
        ValueError: a line that is no answer, or one of another run.
    """
    try:
        *lines, last = path.read_bytes().split(b"\n")
        texts = [line.decode() for line in lines]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected a file of answers that can be read ({error})") from None
    text = last.decode(errors="ignore")  # it may be cut off inside a letter
    cut_off = begins_an_answer(text)
    unended = bool(last) and not cut_off
    found = {key_of(line, f"{path}, line {n}", run) for n, line in enumerate(texts + [text] * unended, 1)}
    return found, len(last) if cut_off else 0, unended


def begins_an_answer(text: str) -> bool:
    """Whether a text is the beginning of an answer's line, and not all of one."""
    try:
        json.loads(text)
        return False
    except ValueError:
        ends = {whole[at:] for whole in BEGINNINGS for at in range(len(whole) + 1)}
        return bool(text) and any(BEGINNING.match(text + end) for end in ends)


def key_of(line: str, where: str, run: dict[str, Any]) -> Key:
    """What the answer in a line is to. Raises ValueError where it is none, or one of another run."""
    try:
        row = json.loads(line)
        key, there = (row["id"], row["question"], row["input"]), row["run"]
        hash(key)
        if there == run:
            return key
        other = next((name for name in (*run, *there) if there.get(name) != run.get(name)), "run")
        known = there.get(other)
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{where}: expected an answer of this command; choose another --out") from None
    raise ValueError(
        f"{where}: it holds answers with {other} {known!r}, this run has {run.get(other)!r}; choose another --out"
    )
