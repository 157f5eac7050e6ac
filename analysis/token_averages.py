"""RedVTP Figure 1 on the published data sets: average numbers of visual and prompt tokens.

Images are those of the drawn samples, questions are counted by the model's own tokenizer; its weights are not read.
Prompt tokens are all text tokens of the prompt, its template included; question tokens are those that it has more than
with an empty question. `visual_to_prompt` is the ratio of the averages, with a bootstrap interval over samples (95%,
percentile, seeded).

Source: official_code §2.4 to §2.6, §4.2 and §4.3.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from analysis import answers, benchmarks, drawn, spread, storage, subset
from analysis.benchmarks import Sample
from analysis.profiles import RunContext
from analysis.results import Measurement, Result
from redvtp.cli.shapes import unloaded
from redvtp.model import host_class, model_folder
from redvtp.models.checkpoint import read_tokenizer
from redvtp.models.files import read_json
from redvtp.models.lavida import Lavida
from redvtp.models.prompts import LLADA_V_SYSTEM, render, tokenize, user_text
from redvtp.models.published import true_layout
from redvtp.sequence import count_kinds

BY = ("host", "model", "family", "split", "seed")
RESAMPLES = 2000
COUNTED = ("visual_tokens", "prompt_tokens", "question_tokens")
FILES = ("config.json", "redvtp.json", "tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Counter:
    """A model without its weights. layout: visual tokens of (width, height). tokens: of a text."""

    host: str
    layout: Callable
    tokens: Callable[[str], int]

    def count(self, sample: Sample) -> dict[str, int]:
        """The tokens of one sample's prompt."""
        question = sample.question + benchmarks.get(sample.family).suffix(self.host)
        prompt, empty = self.tokens(question), self.tokens("")
        return {
            "visual_tokens": sum(count_kinds(self.layout(*sample.image.size)).values()),
            "prompt_tokens": prompt,
            "question_tokens": prompt - empty,
        }


@functools.cache
def counter(name: str) -> Counter:
    """A model folder's layout and tokenizer. Raises CheckpointError for what is none."""
    folder = model_folder(name)
    host, tokenizer = host_class(folder).name, read_tokenizer(folder)
    own = read_json(folder / "redvtp.json") if (folder / "redvtp.json").is_file() else {}
    layout = functools.partial(true_layout, host) if host == Lavida.name else unloaded(name).layout

    def tokens(question: str) -> int:
        text = render(own.get("system_prompt", LLADA_V_SYSTEM), user_text(question, 1))
        return sum(map(len, tokenize(tokenizer, text, own.get("keep_newline", False))))

    return Counter(host, layout, tokens)


def compute(name: str, samples: Sequence[Sample]) -> dict:
    """One sample's counts, with the fields of its row."""
    (sample,) = samples
    found = counter(name)
    return {"fields": {"host": found.host} | subset.fields_of(name, [sample])} | found.count(sample)


def summarise(found: Sequence[dict]) -> Iterator[dict]:
    """The row of one model and data set."""
    values = np.array([[one[name] for name in COUNTED] for one in found], dtype=float)
    places = np.random.default_rng(0).integers(len(values), size=(RESAMPLES, len(values)))
    means = np.stack([values[place].mean(0) for place in places])
    row = dict(found[0]["fields"]) | {"n": len(values)}
    told = dict(zip(COUNTED, zip(values.mean(0), means.T)))
    for name, below in (("visual_to_prompt", "prompt_tokens"), ("visual_to_question", "question_tokens")):
        told[name] = tuple(one / other for one, other in zip(told["visual_tokens"], told[below]))
    for name, (mean, resampled) in told.items():
        low, high = np.quantile(resampled, (0.025, 0.975))
        row |= {name: float(mean), f"{name}_low": float(low), f"{name}_high": float(high)}
    yield row


def measure(run: RunContext) -> Result:
    """Averages for every model of the profile and every data set that the run draws from."""
    chosen, names = drawn.samples(run), run.profile.models
    with Measurement(
        "token_counts",
        run,
        by=BY,
        link="paper",
        params={"resamples": RESAMPLES},
        inputs={f"weights {answers.folder(name)}": _files_hash(name) for name in names} | drawn.inputs(chosen),
        module="analysis.token_averages",
    ) as m:
        m.each_piece(
            [{"model": name, "family": family, "seed": seed} for name in names for family, seed in chosen],
            lambda cell: subset.batches(chosen[cell["family"], cell["seed"]], 1),
            lambda cell, batch: compute(cell["model"], list(batch)),
            lambda cell, found: summarise(found),
        )
    return m.result


def _files_hash(name: str) -> str:
    """A hash of what counting stands on: config and tokenizer."""
    there = [path for file in FILES if (path := model_folder(name) / file).is_file()]
    return spread.from_first(lambda: storage.files_hash(*there))
