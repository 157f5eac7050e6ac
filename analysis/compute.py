"""Compute on the true 8B shapes: FLOPs by stage for every place of a cut, and the speed-up that they allow.

Each run is one image, one answer. Every forward's products are counted by torch on modules of the true shape and
by formula, two ways of counting that share no arithmetic (see analysis.flop_pieces). From them: the share of the
unpruned run's FLOPs, 1 - share (how far latency can fall where time follows these FLOPs), and 1 / share (by how
much speed can rise). FLOPs are not time: kernels differ in efficiency, and what is not counted (softmax over the
vocabulary, attention maps that are written out, image loading) takes time as well.

The official code computes the last layer and the head on every token; that is what shares are of. This package
computes the head on rows still masked and, of the last layer, the response: `own_total` and `own_share`.

Methods are told apart by where they cut. Random, Uniform, Oracle, Shuffled and ToMe cut where RedVTP does and
cost the same, but for what they score or match.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, astuple, dataclass

from transformers import LlamaConfig

from analysis import tiles
from analysis.command import command
from analysis.flop_pieces import Counted, Formula, Pieces
from analysis.profiles import RunContext
from analysis.results import Measurement, Result
from redvtp.models.prompts import prompt_tokens
from redvtp.models.published import true_config
from redvtp.plans import Forward, PlannedCut, Stages, Task, forwards, planned, stages
from redvtp.pruning import FastV, LladaFastV, Pruner, Random, RedVTP
from redvtp.selection import Cut, Share

BY = ("host", "response", "steps", "place", "keep")

SIZE = (1024, 1024)
"""Of the image in pixels: 3699 visual tokens from 10 crops for LLaDA-V, 1008 from 5 for LaViDa."""

QUESTION = 27
"""Assumed tokens of the question, so that the prompt has 80 with the template's 53."""

OFFICIAL = ((2, 2), (16, 16), (32, 16), (96, 48))
"""Response tokens and steps: short answers, ChartQA, DocVQA and InfoVQA, MathVista (official_code §3.3)."""

SWEEP = tuple((response, 2**k) for response in (8, 32, 128) for k in range(1, response.bit_length()))
"""More of the same, for the curves over the number of steps: 2, 4, 8, ... up to one token a step."""

RATIOS = (0.75, 0.5, 0.25, 0.1)
LAYERS = (8, 16, 20, 24)
FRACTIONS = {"a quarter": 0.25, "half": 0.5, "three quarters": 0.75}


@dataclass(frozen=True)
class Answer(Task):
    """One question about an image, in tokens and steps, and the crops of it that the tower sees."""

    crops: int


@dataclass(frozen=True)
class Cost(Stages):
    """FLOPs of one answer: the language model's, and those of vision beside its `total`."""

    tower: int
    projector: int

    @property
    def vision(self) -> int:
        """What is done once, before any cut."""
        return self.tower + self.projector


def plans(keep: float, steps: int, layers: int) -> dict[str, tuple[str, tuple[PlannedCut, ...]]]:
    """The method and its cuts, by place, of all places that a run of so many steps has."""
    pruners: dict[str, Pruner] = {
        "before step 1": Random(keep=keep, step=0),
        "after step 1": RedVTP(keep=keep),
        **{f"inside step 1, layer {layer}": LladaFastV(keep=keep, layer=layer) for layer in LAYERS},
        "inside every step, layer 2": FastV(keep=keep),
    }
    late = {name: share * steps for name, share in FRACTIONS.items() if share * steps > 1}
    pruners |= {f"after {name} of the steps": RedVTP(keep=keep, step=round(step)) for name, step in late.items()
                if step == round(step)}  # fmt: skip
    found = {place: (pruner.name, planned(pruner, steps, layers)) for place, pruner in pruners.items()}
    if steps >= 4:
        # Half of what goes is dropped after step 1, the rest after half of the steps.
        rows = frozenset({"response"})
        two = (PlannedCut(Cut(1), Share((1 + keep) / 2), rows), PlannedCut(Cut(steps // 2), Share(keep), rows))
        found["two cuts"] = ("redvtp", two)
    return found


def cost(pieces: Pieces, answer: Answer, made: Sequence[Forward], official: bool = False) -> Cost:
    """FLOPs of these forwards as this package runs them, or as the ``official`` code does, and of the vision before."""
    language = stages(pieces, answer, made, official)
    return Cost(**asdict(language), tower=pieces.tower(answer.crops), projector=pieces.projector(answer.crops))


def paper_macs(config: LlamaConfig, made: Sequence[Forward], matrices: int) -> int:
    """The papers' formula, summed over layers and steps: 4 n d^2 + 2 n^2 d + c n d m, in multiply-adds.

    ``matrices``: c, 2 in arXiv 2511.15098 (a plain MLP), 3 for LLaDA's gated one. It has no head, no tower.
    """
    d, m = config.hidden_size, config.intermediate_size
    lengths = Counter(length for one in made for length in one.lengths)
    return sum(times * (4 * n * d * d + 2 * n * n * d + matrices * n * d * m) for n, times in lengths.items())


@functools.cache
def sides(host: str) -> tuple[Pieces, Pieces]:
    """Counted and by formula, for the true shape of a host."""
    return Counted(true_config(host)), Formula(true_config(host))


def answer_of(host: str, response: int, steps: int) -> Answer:
    """An answer about an image of `SIZE`."""
    image = tiles.geometry(host, *SIZE)
    return Answer(image.tokens, prompt_tokens(QUESTION), response, steps, image.crops)


def compute(host: str, response: int, steps: int) -> Iterator[dict]:
    """Rows of one setting: without pruning, then every place and ratio; outside the official settings only
    RedVTP's place."""
    counted, formula = sides(host)
    answer, config = answer_of(host, response, steps), true_config(host).text_config
    layers = counted.layers
    cases = [("none", "none", 1.0, ())]
    for keep in RATIOS:
        for place, (method, plan) in plans(keep, steps, layers).items():
            if (response, steps) in OFFICIAL or place == "after step 1":
                cases.append((place, method, keep, plan))
    full = None
    for place, method, keep, plan in cases:
        made = forwards(answer, plan, layers)
        found, own = (cost(counted, answer, made, official) for official in (True, False))
        written = [cost(formula, answer, made, official) for official in (True, False)]
        full = full or (found, own)
        yield {
            "host": host, "response": response, "steps": steps, "place": place, "keep": keep, "method": method,
            "visual_tokens": answer.visual, "prompt_tokens": answer.prompt, "crops": answer.crops,
            "tokens_fed": sum(sum(one.lengths) for one in made) / layers,
            "tower": found.tower, "projector": found.projector, "first": found.first, "later": found.later,
            "head": found.head, "scoring": found.scoring, "total": found.total,
            "formula_total": written[0].total,
            "difference": sum(
                abs(a - b) for pair in zip((found, own), written) for a, b in zip(*map(astuple, pair))
            ),
            "share": found.total / full[0].total,
            "share_with_vision": (found.total + found.vision) / (full[0].total + full[0].vision),
            "own_total": own.total,
            "own_share": own.total / full[1].total,
            "plain_macs": paper_macs(config, made, 2),
            "gated_macs": paper_macs(config, made, 3),
        }  # fmt: skip


def measure(run: RunContext) -> Result:
    """FLOPs of both hosts in all settings. Nothing is sampled: every size of a run gives the same rows."""
    params = {"image": list(SIZE), "question": QUESTION}
    settings = sorted({*OFFICIAL, *SWEEP})
    with Measurement("compute", run, by=BY, link="flops", params=params) as m:
        m.each(
            [{"host": host, "response": response, "steps": steps} for host in ("llada_v", "lavida")
             for response, steps in settings],
            lambda cell: compute(**cell),
        )  # fmt: skip
    return m.result


if __name__ == "__main__":
    raise SystemExit(command("compute", measure, __doc__))
