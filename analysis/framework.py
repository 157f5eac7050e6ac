"""RedVTP Figure 2, from a run that really happened: step 1's attention, its scores, what is kept, later steps.

The sample follows from a rule: of the doc family, the first test sample in order that the profile's first model
answers rightly without pruning, whatever becomes of it when pruned. RedVTP at r = 25%, under the family's protocol.

Rows are of four parts. `token`: a visual token with its score and whether it stays. `row`: a response row of step 1,
whether it is still masked after it, and its attention to each visual token in hundredths of the largest value,
`top`. `step`: the lengths of each forward. `commit`: a response token, its step and confidence.
"""

from __future__ import annotations

from collections.abc import Iterator

import redvtp
from analysis import answers, benchmarks, examples
from analysis.benchmarks import Sample
from analysis.command import command
from analysis.profiles import RunContext
from analysis.results import Measurement, Result
from analysis.trace import Trace, trace
from redvtp.metrics import exact_match
from redvtp.sequence import PROMPT, VISUAL

BY = ("host", "model", "family", "split", "seed", "index", "part", "place")
FAMILY = "doc"
KEEP = 0.25
LEVELS = 99
TRIES = 100  # samples that are tried before the rule is given up


def choose(host: redvtp.Model, seed: int) -> Sample:
    """The first test sample that is answered rightly without pruning.

    Raises:
        ValueError: none of the first `TRIES` is.
    """
    for index in range(TRIES):
        sample = benchmarks.get(FAMILY).sample(answers.SPLIT, seed, index)
        if exact_match(host.answer(answers.start(host, [sample]).run()[0]).text, sample.answer):
            return sample
    raise ValueError(f"none of the first {TRIES} test samples of {FAMILY} is answered rightly, so none can be shown")


def compute(name: str, seed: int) -> Iterator[dict]:
    """The rows of the sample's run."""
    host = answers.model(name)
    sample = choose(host, seed)
    found = trace(host, answers.start(host, [sample], redvtp.RedVTP(keep=KEEP)))
    for row in parts(found, sample):
        yield examples.sample_fields(name, sample) | row


def parts(found: Trace, sample: Sample) -> Iterator[dict]:
    """Rows of every part."""
    first = found.steps[0]
    kept = set(found.answer.kept.tolist())
    scores = first.scores
    if scores is None:
        raise ValueError("no row was masked after step 1, so nothing guides a cut")
    for place, score in enumerate(scores.tolist()):
        yield {"part": "token", "place": place, "score": score, "kept": place in kept}
    top = float(first.attention.max())
    for place, (attention, masked) in enumerate(zip(first.attention, first.undecided.tolist(), strict=True)):
        levels = (attention / top * LEVELS).round().int().tolist()
        yield {"part": "row", "place": place, "masked": masked, "top": top, "levels": " ".join(map(str, levels))}
    for number, step in enumerate(found.steps, 1):
        visual = int((step.layout.kind == VISUAL).sum())
        prompt = int((step.layout.kind == PROMPT).sum())
        yield {
            "part": "step", "place": number, "visual": visual, "prompt": prompt, "response": found.length,
            "fed": step.fed, "committed": sum(token.step == number for token in found.tokens),
        }  # fmt: skip
    for token in found.tokens:
        yield {
            "part": "commit", "place": token.place, "step": token.step, "text": token.text,
            "confidence": token.confidence, "answer": sample.answer, "prediction": found.answer.text,
            "evidence_recall": redvtp.evidence_recall(found.answer.layout, sample.evidence),
        }  # fmt: skip


def measure(run: RunContext) -> Result:
    """The run of the first model's sample."""
    name, seed = run.profile.models[0], run.seeds[0]
    with Measurement(
        "framework",
        run,
        by=BY,
        link="mini",
        params={"family": FAMILY, "keep": KEEP, "split": answers.SPLIT},
        inputs={f"weights {answers.folder(name)}": answers.weights_hash(name)},
        # Which of two nearly equal tokens is kept, and the last digit of a score, may differ between processors.
        tolerances={"score": 1e-3, "kept": None, "levels": None, "top": 1e-3, "confidence": 1e-3,
                    "evidence_recall": 0.05},
    ) as m:  # fmt: skip
        m.each([{"seed": seed}], lambda cell: compute(name, cell["seed"]))
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("framework", measure, __doc__))
