"""Answers as JSON Lines: one a line, written at once, and taken up again where a run was stopped."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, TextIO

Key = tuple[Any, str]


class Output:
    """Where answers go: a file that is appended to, or standard output.

    Args:
        path: None for standard output, which cannot be taken up again.
        run: what was asked for (model, method, settings); it stands in every line, and a file that holds answers
            of another run is refused.

    Raises:
        ValueError: naming the file and line, and what was expected.
    """

    def __init__(self, path: Path | None, run: dict[str, Any]) -> None:
        self.path, self.run = path, run
        self.done: set[Key] = set()
        if path is not None and path.exists():
            self.done = finished(path, run)

    def __enter__(self) -> Output:
        self.file: TextIO = sys.stdout
        if self.path is not None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.file = self.path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        if self.path is not None:
            self.file.close()

    def write(self, row: dict[str, Any]) -> None:
        """Append one answer."""
        self.file.write(json.dumps(row | {"run": self.run}, ensure_ascii=False) + "\n")
        self.file.flush()


def finished(path: Path, run: dict[str, Any]) -> set[Key]:
    """(id, question) of the answers in a file; a last line that was cut off in the middle is taken away.

    Raises:
        ValueError: a line that is no answer, or one of another run.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected a file of answers that can be read ({error})") from None
    whole, _, rest = text.rpartition("\n")
    found: set[Key] = set()
    for number, line in enumerate(whole.split("\n") if whole else [], 1):
        try:
            row = json.loads(line)
            found.add((row["id"], row["question"]))
            there = row["run"]
        except (ValueError, KeyError, TypeError):
            line = f"{path}, line {number}"
            raise ValueError(f"{line}: expected an answer of this command; choose another --out") from None
        if there != run:
            other = next((name for name in (*run, *there) if there.get(name) != run.get(name)), "run")
            raise ValueError(
                f"{path}, line {number}: it holds answers with {other} {there.get(other)!r}, this run has "
                f"{run.get(other)!r}; choose another --out"
            )
    if rest:
        with path.open("r+b") as file:
            file.truncate(len((whole + "\n" if whole else "").encode()))
    return found
