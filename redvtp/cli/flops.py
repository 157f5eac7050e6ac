"""``python -m redvtp flops``: what a run costs by stage, and how far latency could fall."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from redvtp.cli.shapes import text_config
from redvtp.cli.words import add_method, budget_word, pruner_of, whole
from redvtp.flops import LanguageFormula
from redvtp.plans import Task, forwards, planned, stages

SHAPES = ("llada_v", "lavida", "mini")
LABELS = {"first": "layers, step 1", "later": "layers, later steps", "head": "output head", "scoring": "scoring"}
UNITS = ((1e12, "TFLOPs"), (1e9, "GFLOPs"), (1e6, "MFLOPs"))

ABOUT = """\
FLOPs of the language model over all denoising steps, a multiply-add being two: by formula, which the test-suite
holds against torch's own counter. Two ways of running are counted: this package's loop (head on rows still masked,
last layer on the response) and the official code's (both on every token). Not counted: the vision tower, norms,
softmax, the sampler. The latency bound is how far latency could fall if time followed these FLOPs; it is no time.
"""
EXAMPLES = """\
examples:
  python -m redvtp flops --visual 3699 --prompt 80 --response 32 --steps 16 --keep 25%
  python -m redvtp flops --visual 1008 --prompt 80 --response 32 --steps 16 --keep 50% --shape lavida --json
  python -m redvtp flops --visual 3699 --prompt 80 --response 2 --steps 2 --method llada_fastv --option layer=16
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "flops", prog="python -m redvtp flops", help="FLOPs of a run by stage", description=ABOUT, epilog=EXAMPLES
    )
    one = whole(1)
    parser.add_argument("--visual", type=one, required=True, metavar="N", help="visual tokens (see `tokens`)")
    parser.add_argument("--prompt", type=whole(0), required=True, metavar="N", help="other tokens before the response")
    parser.add_argument("--response", type=one, required=True, metavar="N", help="response tokens")
    parser.add_argument("--steps", type=one, required=True, metavar="K", help="denoising steps, in one block")
    add_method(parser)
    parser.add_argument(
        "--shape", default="llada_v", metavar="NAME",
        help=f"{', '.join(SHAPES)}, or a model folder (its config is read, no weights; default: llada_v, 8B)",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="one JSON object instead of a table")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the cost; the exit code."""
    config = text_config(arguments.shape)
    task = Task(arguments.visual, arguments.prompt, arguments.response, arguments.steps)
    layers = config.num_hidden_layers
    try:
        pruner = pruner_of(arguments.method, arguments.keep, arguments.option)
        plan = planned(pruner, task.steps, layers)
    except ValueError as error:
        arguments.parser.error(str(error))
    parts = LanguageFormula(config)
    made, full = forwards(task, plan, layers), forwards(task, (), layers)
    found = {
        name: (stages(parts, task, made, official), stages(parts, task, full, official))
        for name, official in (("this package", False), ("official code", True))
    }
    keep = budget_word(getattr(pruner, "keep", None))
    fed = sum(sum(one.lengths) for one in made) / layers
    print(as_json(arguments, keep, fed, found) if arguments.json else as_table(arguments, keep, fed, found))
    return 0


def as_json(arguments: argparse.Namespace, keep: str | None, fed: float, found: dict) -> str:
    """One object; FLOPs are whole numbers."""
    answer = {name: getattr(arguments, name) for name in ("shape", "visual", "prompt", "response", "steps", "method")}
    answer |= {"keep": keep, "tokens_fed": fed}
    for name, (pruned, full) in found.items():
        share = pruned.total / full.total
        answer[name.replace(" ", "_")] = asdict(pruned) | {
            "total": pruned.total, "unpruned": full.total, "share": share, "latency_bound": 1 - share,
            "speedup_bound": 1 / share,
        }  # fmt: skip
    return json.dumps(answer)


def as_table(arguments: argparse.Namespace, keep: str | None, fed: float, found: dict) -> str:
    """A few lines to read."""
    largest = max(full.total for _, full in found.values())
    unit, name = next(((unit, name) for unit, name in UNITS if largest >= unit), (1, "FLOPs"))

    def line(label: str, values: list[str]) -> str:
        return f"  {label:26}" + "".join(f"{value:>16}" for value in values)

    def flops(pick) -> list[str]:
        return [f"{pick(pair) / unit:.3f}" for pair in found.values()]

    def shares(pick, form: str) -> list[str]:
        return [form.format(pick(pruned.total / full.total)) for pruned, full in found.values()]

    what = "no pruning" if keep is None else f"{arguments.method}, keep {keep}"
    lines = [
        f"{arguments.shape}: {arguments.visual} visual, {arguments.prompt} prompt and {arguments.response} response "
        f"tokens, {arguments.steps} steps; {what}; {fed:.0f} tokens fed",
        line(name, list(found)),
        *(line(label, flops(lambda pair, stage=stage: getattr(pair[0], stage))) for stage, label in LABELS.items()),
        line("total", flops(lambda pair: pair[0].total)),
        line("unpruned", flops(lambda pair: pair[1].total)),
        line("share of unpruned", shares(lambda share: share, "{:.1%}")),
        line("latency can fall by up to", shares(lambda share: 1 - share, "{:.1%}")),
        line("speed can rise up to", shares(lambda share: 1 / share, "{:.2f}x")),
    ]
    return "\n".join(lines)


