"""``python -m redvtp generate``: answers about one image, a folder of them, or the lines of a file."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image

from redvtp.cli.inputs import Item, is_list, read_items
from redvtp.cli.output import Output
from redvtp.cli.shapes import MINI, unloaded
from redvtp.cli.words import add_method, budget_word, number, pruner_of, whole
from redvtp.generation.cutting import check_pruner
from redvtp.generation.history import Recorder
from redvtp.generation.passes import check_cache
from redvtp.generation.settings import REMASKING, Settings
from redvtp.images import ImageError, read_image
from redvtp.model import Answer, Model, load
from redvtp.models.base import Prompt
from redvtp.overlay import drawn_scores, kept_picture
from redvtp.pruning import Pruner
from redvtp.sequence import Layout

DTYPES = ("float32", "bfloat16", "float16")
SETTINGS = ("length", "steps", "block_length", "remasking", "temperature", "cfg_scale", "seed", "suffix")

ABOUT = """\
Answers a question about an image, with visual tokens pruned. IMAGE is an image, a folder of images (the QUESTION is
asked about each), or a .jsonl file with a line for each question: image (a path relative to the file, a list of
paths, or null), question (optional where QUESTION is given) and id (optional: the line's number); `evidence`, boxes
in pixels, is read for --method oracle.

One image prints its answer; --json, --out, a folder or a file give JSON Lines: id, question, images (their paths),
text, visual_tokens, kept, steps, tokens_fed, flops (language model, see `flops`), seconds (of the batch, for each of
its samples), input (a hash of the images' content) and `run`, what was asked for. With --out an interrupted run goes
on where it stopped: samples whose id, question and input are there are left out, and a file with anything else than
answers of the same run is refused. Samples that fail are named on standard error and tried again by the next run.
"""
EXAMPLES = """\
examples:
  python -m redvtp generate page.png "What is TOTAL?"
  python -m redvtp generate page.png "What is TOTAL?" --keep 25% --save-map kept.png
  python -m redvtp generate page.png "What is left of the red circle?" --length 2 --steps 2 --method llada_fastv
  python -m redvtp generate pages/ "What is DATE?" --keep 100t --out answers.jsonl
  python -m redvtp generate questions.jsonl --method redvtp --option rows=prompt --out answers.jsonl --batch 8
  python -m redvtp generate page.png "What is TOTAL?" --method none --json
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "generate", prog="python -m redvtp generate", help="answers about images, with pruning", description=ABOUT,
        epilog=EXAMPLES,
    )  # fmt: skip
    parser.add_argument("image", metavar="IMAGE", help="an image, a folder of images, or a .jsonl file")
    parser.add_argument("question", metavar="QUESTION", nargs="?", help="the question; a .jsonl file may hold its own")
    parser.add_argument("--model", default=MINI, metavar="NAME", help=f"a model folder or name (default: {MINI})")
    add_method(parser)
    defaults, one = Settings(), whole(1)
    how = parser.add_argument_group("denoising")
    how.add_argument("--length", type=one, default=defaults.length, metavar="N", help="response tokens (default: 32)")
    how.add_argument("--steps", type=one, default=defaults.steps, metavar="N", help="denoising steps (default: 16)")
    how.add_argument("--block-length", type=one, metavar="N", help="tokens of a block (default: one block)")
    how.add_argument("--remasking", choices=REMASKING, default=defaults.remasking, metavar="RULE",
                     help=f"what is committed first: {', '.join(REMASKING)} (default: {REMASKING[0]})")  # fmt: skip
    how.add_argument("--temperature", type=number, default=0.0, metavar="T", help="0 is greedy (default: 0)")
    how.add_argument("--cfg-scale", type=number, default=0.0, metavar="S", help="guidance; 0 is off (default: 0)")
    how.add_argument("--seed", type=whole(0), default=0, metavar="N", help="of every random draw (default: 0)")
    how.add_argument("--stop", action="append", metavar="TEXT", help="text that ends a response, may be repeated")
    how.add_argument("--suffix", default="", metavar="TEXT", help="text that follows the response and conditions it")
    out = parser.add_argument_group("input and output")
    out.add_argument("--batch", type=one, default=1, metavar="N", help="samples at a time (default: 1)")
    out.add_argument("--device", default="cpu", metavar="NAME", help="as torch names it (default: cpu)")
    out.add_argument("--dtype", choices=DTYPES, metavar="NAME",
                     help=f"{', '.join(DTYPES)} (default: the model's own)")  # fmt: skip
    out.add_argument("--out", type=Path, metavar="FILE", help="append JSON Lines here, and go on where they end")
    out.add_argument("--json", action="store_true", help="a JSON line also for one image")
    out.add_argument("--save-map", type=Path, metavar="PATH",
                     help="picture of the scores in step 1 and what is kept: a file, or a folder for several")
    parser.set_defaults(run=run, parser=parser)


@dataclass(frozen=True)
class Job:
    """What is run: the method, the loop's settings, and whether pictures are wanted."""

    pruner: Pruner | None
    settings: dict[str, Any]
    maps: Path | None
    one: bool


def run(arguments: argparse.Namespace) -> int:
    """Answer what was asked; the exit code."""
    try:
        items, job = checked(arguments)
        output = Output(arguments.out, described(arguments, job))
    except (ValueError, RuntimeError) as error:
        arguments.parser.error(str(error))
    waiting = [item for item in items if item.key not in output.done]
    if output.done:
        print(f"{len(items) - len(waiting)} of {len(items)} are in {arguments.out} already", file=sys.stderr)
    if not waiting:
        return 0
    try:
        dtype = None if arguments.dtype is None else getattr(torch, arguments.dtype)
        model = load(arguments.model, dtype, arguments.device)
        return write_all(model, waiting, job, output, arguments)
    except KeyboardInterrupt:
        kept = f"; what is in {arguments.out} is kept, run it again to go on" if arguments.out else ""
        print(f"interrupted{kept}", file=sys.stderr)
        return 130
    except OSError as error:
        print(f"{arguments.parser.prog}: {error}", file=sys.stderr)
        return 1


def checked(arguments: argparse.Namespace) -> tuple[list[Item], Job]:
    """What is to be done. Everything that can be refused without weights is refused here.

    Raises:
        ValueError: naming the word and what was expected.
    """
    items = read_items(arguments.image, arguments.question)
    one = not is_list(Path(arguments.image)) and not Path(arguments.image).is_dir()
    settings = {name: getattr(arguments, name) for name in SETTINGS}
    if arguments.stop is not None:
        settings["stop"] = tuple(arguments.stop)
    pruner = pruner_of(arguments.method, arguments.keep, arguments.option)
    host = unloaded(arguments.model)
    given = {"evidence": []} if all(item.evidence for item in items) else {}
    check_pruner(pruner, SimpleNamespace(name=host.name, can=host.can, layers=host.layers), Settings(**settings), given)
    check_cache(None, host, pruner)
    if one:
        read_image(items[0].images[0])
    maps = arguments.save_map
    if maps and one and maps.suffix.lower() not in Image.registered_extensions():
        raise ValueError(f"--save-map {maps}: expected a picture's name such as kept.png")
    if maps and not one and maps.exists() and not maps.is_dir():
        raise ValueError(f"--save-map {maps}: expected a folder, for there may be several pictures; found a file")
    if torch.device(arguments.device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"--device {arguments.device}: torch finds no CUDA device here")
    return items, Job(pruner, settings, maps, one)


def described(arguments: argparse.Namespace, job: Job) -> dict[str, Any]:
    """The run as every line of answers tells it."""
    keep = getattr(job.pruner, "keep", None)
    return {
        "model": arguments.model,
        "method": arguments.method,
        "keep": budget_word(keep),
        "option": sorted(arguments.option),
        **{name: list(value) if isinstance(value, tuple) else value for name, value in job.settings.items()},
        "dtype": arguments.dtype,
    }


def write_all(model: Model, items: Sequence[Item], job: Job, output: Output, arguments: argparse.Namespace) -> int:
    """Answer the items, batch by batch, with progress on standard error; the exit code."""
    plain = job.one and not arguments.json and arguments.out is None
    failed, started = 0, time.perf_counter()
    with output:
        for first in range(0, len(items), arguments.batch):
            for item, row in answered(model, items[first : first + arguments.batch], job):
                if isinstance(row, str):
                    failed += 1
                    say(f"{item.id}: {row}", last=True)
                elif plain:
                    print(row["text"])
                    say(summary(row), last=True)
                else:
                    output.write(row)
            over = min(first + arguments.batch, len(items))
            if not job.one:
                say(progress(over, len(items), failed, time.perf_counter() - started), last=over == len(items))
    return 1 if failed else 0


def answered(model: Model, items: Sequence[Item], job: Job) -> Iterator[tuple[Item, dict[str, Any] | str]]:
    """Each item with its row, or with what is wrong with it. A batch that fails is answered one by one."""
    ready: list[tuple[Item, list[Image.Image]]] = []
    for item in items:
        try:
            ready.append((item, [read_image(path) for path in item.images]))
        except ImageError as error:
            yield item, str(error)
    if not ready:
        return
    try:
        yield from batch_rows(model, ready, job)
    except ValueError as error:
        if len(ready) == 1:
            yield ready[0][0], str(error)
        else:
            for item, _ in ready:
                yield from answered(model, [item], job)


def batch_rows(
    model: Model, batch: Sequence[tuple[Item, list[Image.Image]]], job: Job
) -> list[tuple[Item, dict[str, Any]]]:
    """One batch's rows, in order; its pictures are written."""
    started = time.perf_counter()
    recorder = Recorder(attention=True) if job.maps else None
    evidence = [item.evidence for item, _ in batch]
    decoding = model.start(
        [Prompt(item.question, images) for item, images in batch],
        prune=job.pruner,
        seeds=[job.settings["seed"]] * len(batch),
        recorder=recorder,
        extras={"evidence": evidence} if all(evidence) else None,
        **job.settings,
    )
    before = decoding.state.layout
    decoding.step()
    if recorder is not None:
        recorder.attention = False  # the picture shows step 1's
    answers = [model.answer(result) for result in decoding.run()]
    seconds = (time.perf_counter() - started) / len(batch)
    for place, (item, images) in enumerate(batch):
        if job.maps and images:
            path = job.maps if job.one else job.maps / f"{file_name(item)}.png"
            save_map(path, images, before, recorder, answers, place)
    return [(item, row_of(item, answer, seconds)) for (item, _), answer in zip(batch, answers, strict=True)]


def row_of(item: Item, answer: Answer, seconds: float) -> dict[str, Any]:
    """One answer as a line of output."""
    return {
        "id": item.id,
        "question": item.question,
        "images": [str(path) for path in item.images],
        "text": answer.text,
        "visual_tokens": answer.visual_tokens,
        "kept": len(answer.kept),
        "steps": answer.steps,
        "tokens_fed": answer.tokens_fed,
        "flops": answer.flops,
        "seconds": round(seconds, 4),
        "input": item.content,
    }


def save_map(
    path: Path, images: Sequence[Image.Image], before: Layout, recorder: Recorder, answers: Sequence[Answer], place: int
) -> None:
    """The picture of one sample of a batch, its images below each other."""
    record = recorder.steps[0]
    scores = drawn_scores(record.attention[place], record.undecided[place])
    layout = before.rows(torch.tensor([place], device=before.kind.device))
    pages = [kept_picture(image, layout, scores, answers[place].layout, i) for i, image in enumerate(images)]
    path.parent.mkdir(parents=True, exist_ok=True)
    page = Image.new("RGB", (max(one.width for one in pages), sum(one.height for one in pages)), "white")
    top = 0
    for one in pages:
        page.paste(one, (0, top))
        top += one.height
    page.save(path)


def file_name(item: Item) -> str:
    """An id as a file's name."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in str(item.id)) or "_"


def summary(row: dict[str, Any]) -> str:
    """What one answer took."""
    return (
        f"{row['kept']} of {row['visual_tokens']} visual tokens kept, {row['tokens_fed']:.0f} tokens fed in "
        f"{row['steps']} steps, {row['seconds']:.2f} s"
    )


def progress(over: int, of: int, failed: int, seconds: float) -> str:
    """How far it is and how long it will take."""
    left = seconds / over * (of - over)
    wait = "" if over == of else f", about {left / 60:.0f} min left" if left >= 90 else f", about {left:.0f} s left"
    return f"{over}/{of}  {seconds / over:.2f} s each{wait}" + (f", {failed} failed" if failed else "")


def say(text: str, last: bool = False) -> None:
    """A line on standard error; on a terminal the next one takes its place unless it is the last."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="\n" if last else "", file=sys.stderr, flush=True)
    else:
        print(text, file=sys.stderr, flush=True)


