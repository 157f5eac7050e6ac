"""The published data sets: which rows are drawn, what is asked, and how it is answered.

Questions are those of lmms-eval 0.7.3's tasks. LLaDA-V's evaluation has a copy of its own, whose DocVQA and InfoVQA
prompts ask for a reason before the answer; it is not shipped anywhere that could be read here. Protocols are LLaDA-V's
(official_code §3.3); " /no_think" is what its adapter writes behind each question (§2.6). Column names are those of the
data sets of lmms-lab on the hub.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from analysis.benchmarks import parquet
from analysis.benchmarks.base import Protocol, Sample
from analysis.benchmarks.parquet import DataError

OPTION_LETTERS = "ABCDEFGHIJ"
LETTER = "\nAnswer with the option's letter from the given choices directly."
THINKING = {"llada_v": " /no_think"}

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Asked:
    """What a row asks: see `Sample`. `options` stand between the question and the task's instruction."""

    kind: str
    question: str
    answers: tuple[str, ...]
    options: str = ""
    instruction: str = ""

    def sample(self, of: PublishedSet, seed: int, index: int, image) -> Sample:
        """The sample that it is with its image."""
        behind = self.options + self.instruction
        return Sample(
            of.name, of.split, seed, index, image, self.kind, self.question + behind, "?" + behind, self.answers[0], (),
            tuple(dict.fromkeys(self.answers[1:])),
        )  # fmt: skip


@dataclass(frozen=True)
class PublishedSet:
    """A published data set.

    repository, config, split: its name on the hub. folder: of its files in a download.
    columns: what is read beside the image. ask: what a row asks. metric, protocol, stop: as of a `Benchmark`.
    """

    name: str
    repository: str
    config: str
    split: str
    folder: str
    columns: tuple[str, ...]
    ask: Callable[[Row], Asked]
    metric: str
    protocol: Protocol
    stop: tuple[str, ...] = ()

    def suffix(self, host: str) -> str:
        """What a host's own evaluation writes behind a question."""
        return THINKING.get(host, "")

    def files(self, data: str | None) -> list[str]:
        """Its parquet files in a folder, or on the hub for None. Raises DataError saying where they were expected."""
        if data is None:
            return parquet.files_on_hub(self.repository, self.config, self.split)
        top = self.repository.split("/")[1]
        places = [f"{top}/{self.folder}", f"{self.name}/{self.folder}", self.name]
        places += [] if self.folder == "data" else [self.folder]  # FOLDER is that download itself
        found = parquet.files_in(Path(data), places, self.split)
        if not found:
            wanted = ", ".join(f"{data}/{place}/{self.split}-*.parquet" for place in places)
            raise DataError(f"{self.name}: no parquet files; looked for {wanted}")
        return found

    def table(self, files: Sequence[str]) -> parquet.Table:
        """Its rows."""
        return parquet.Table(files, [*self.columns, "image"], self.name)


class Drawn(Sequence[Sample]):
    """Samples of a published data set by row number, read when they are asked for. A slice of it is one, too."""

    def __init__(self, of: PublishedSet, table: parquet.Table, indices: Sequence[int], seed: int) -> None:
        self.of, self.table, self.indices, self.seed = of, table, list(indices), seed

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, place):
        if isinstance(place, slice):
            return Drawn(self.of, self.table, self.indices[place], self.seed)
        index = self.indices[place]
        row = self.table.row(index)
        try:
            image = parquet.picture(row["image"])
            return self.of.ask(row).sample(self.of, self.seed, index, image)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise DataError(f"{self.of.name}: row {index} is not what its columns say ({error})") from error

    def __iter__(self) -> Iterator[Sample]:
        return (self[place] for place in range(len(self)))


def draw(name: str, total: int, fraction: float, seed: int, most: int | None = None) -> list[int]:
    """Row numbers of a share of `total` rows in ascending order, at least one and at most `most`.

    A larger share of the same seed holds the smaller one.
    """
    order = np.random.default_rng([zlib.crc32(name.encode()), seed]).permutation(total)
    count = max(1, round(fraction * total))
    return sorted(order[: min(count, most or count)].tolist())


# ---- what a row asks -------------------------------------------------------------------------------------


def lettered(options: Mapping[str, str]) -> str:
    """Options by letter, a line each."""
    return "".join(f"\n{letter}. {option}" for letter, option in options.items())


def document(row: Row, kinds: str) -> Asked:
    """DocVQA and InfoVQA: an open question with several right answers."""
    kind = (row[kinds] or ["unknown"])[0]
    return Asked(kind, row["question"], tuple(row["answers"]),
                 instruction="\nAnswer the question using a single word or phrase.")  # fmt: skip


def chart(row: Row) -> Asked:
    """ChartQA: an open question, asked by people or made from a summary."""
    return Asked(row["type"], row["question"], (row["answer"],),
                 instruction="\nAnswer the question with a single word.")  # fmt: skip


def diagram(row: Row) -> Asked:
    """AI2D: a choice; the answer is the option's number."""
    options = dict(zip(OPTION_LETTERS, row["options"]))
    return Asked("choice", row["question"], (list(options)[int(row["answer"])],), lettered(options), LETTER)


def choice(row: Row) -> Asked:
    """MMBench: a choice of up to four, perhaps with a hint before the question."""
    options = {letter: row[letter] for letter in "ABCD" if row[letter] and row[letter] != "nan"}
    hint = row["hint"]
    question = f"{hint} {row['question']}" if hint and hint != "nan" else row["question"]
    return Asked(row["category"], question, (row["answer"],), " There are several options:" + lettered(options),
                 "\n" + LETTER)  # fmt: skip


def scene(row: Row) -> Asked:
    """RealWorldQA: the question says itself how it is to be answered."""
    answer = row["answer"].strip()
    return Asked("choice" if answer in tuple("ABCD") else "open", row["question"].strip(), (answer,))


LONG, SHORT = Protocol(32, 32, 16), Protocol(2, 2, 2)

PUBLISHED = {
    one.name: one
    for one in (
        PublishedSet(
            "docvqa", "lmms-lab/DocVQA", "DocVQA", "validation", "DocVQA", ("question", "answers", "question_types"),
            lambda row: document(row, "question_types"), "anls", LONG,
        ),
        PublishedSet(
            "infovqa", "lmms-lab/DocVQA", "InfographicVQA", "validation", "InfographicVQA",
            ("question", "answers", "answer_type"), lambda row: document(row, "answer_type"), "anls", LONG,
        ),
        PublishedSet(
            "chartqa", "lmms-lab/ChartQA", "default", "test", "data", ("type", "question", "answer"), chart,
            "relaxed_accuracy", Protocol(16, 16, 16), ("\n",),
        ),
        PublishedSet(
            "ai2d", "lmms-lab/ai2d", "default", "test", "data", ("question", "options", "answer"), diagram,
            "exact_match", SHORT,
        ),
        PublishedSet(
            "mmbench", "lmms-lab/MMBench", "en", "dev", "en",
            ("question", "hint", "answer", "A", "B", "C", "D", "category"), choice, "exact_match", SHORT,
        ),
        PublishedSet(
            "realworldqa", "lmms-lab/RealWorldQA", "default", "test", "data", ("question", "answer"), scene,
            "exact_match", SHORT,
        ),
    )
}  # fmt: skip
"""By name, in the order of profile `paper`."""
