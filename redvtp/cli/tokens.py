"""``python -m redvtp tokens``: visual and prompt tokens of images, or of sizes, without weights."""

from __future__ import annotations

import argparse
import functools
import json
from pathlib import Path

from redvtp.cli.inputs import images_in
from redvtp.cli.shapes import MINI, unloaded
from redvtp.cli.words import size, whole
from redvtp.images import ImageError, read_image
from redvtp.models.prompts import prompt_tokens
from redvtp.models.published import HEAD_ROWS, true_layout
from redvtp.sequence import Layout, count_kinds

TEMPLATE = prompt_tokens(0)

ABOUT = f"""\
How many visual tokens each image becomes: thumbnail, tiles (after the shrink) and newline tokens; and the prompt's
text tokens. Exact: it is the layout that the model itself is given.

With --model the prompt is counted by the model's tokenizer for --question. The published models' tokenizers are not
shipped, so with --layout their template's {TEMPLATE} tokens are added to --question-tokens, which is then your count.
"""
EXAMPLES = """\
examples:
  python -m redvtp tokens 1024x1024 1700x2200 --layout llada_v
  python -m redvtp tokens pages/ --layout lavida --question-tokens 20
  python -m redvtp tokens page.png --model mini/llada_v --question "What is TOTAL?" --json
"""


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "tokens", prog="python -m redvtp tokens", help="visual and prompt tokens of images", description=ABOUT,
        epilog=EXAMPLES,
    )  # fmt: skip
    parser.add_argument("sources", nargs="+", metavar="IMAGE|WxH", help="image files, folders of them, or sizes")
    host = parser.add_mutually_exclusive_group()
    host.add_argument("--model", metavar="NAME", help=f"a model folder or name (default: {MINI}); no weights are read")
    host.add_argument("--layout", choices=tuple(HEAD_ROWS), help="a published model's layout")
    parser.add_argument("--question", metavar="TEXT", help="the question, with --model")
    parser.add_argument("--question-tokens", type=whole(0), metavar="N", help="tokens of the question, with --layout")
    parser.add_argument("--json", action="store_true", help="a JSON line for each image instead of a table")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the counts; the exit code."""
    if arguments.layout and arguments.question is not None:
        arguments.parser.error("--question: no tokenizer is shipped for --layout; give --question-tokens N")
    if not arguments.layout and arguments.question_tokens is not None:
        arguments.parser.error(f"--question-tokens {arguments.question_tokens}: with --model give --question TEXT")
    try:
        sizes = dict(named_size(name) for source in arguments.sources for name in expanded(source))
    except ValueError as error:
        arguments.parser.error(str(error))
    if arguments.layout:
        layout = functools.partial(true_layout, arguments.layout)
        prompt = prompt_tokens(arguments.question_tokens or 0)
        counted = "template alone" if arguments.question_tokens is None else "template and question"
    else:
        model = unloaded(arguments.model or MINI)
        layout, prompt = model.layout, model.prompt_tokens(arguments.question or "")
        counted = "template alone" if arguments.question is None else "template and question"
    rows = [row(name, shape, layout(*shape), prompt) for name, shape in sizes.items()]
    print("\n".join(map(json.dumps, rows)) if arguments.json else table(rows, counted))
    return 0


def expanded(source: str) -> list[str]:
    """The images of a folder, or the word itself."""
    return [str(path) for path in images_in(Path(source))] if Path(source).is_dir() else [source]


def named_size(source: str) -> tuple[str, tuple[int, int]]:
    """The word with (width, height) of the image or size that it is. Raises ValueError for neither."""
    shape = size(source)
    if shape and not Path(source).exists():
        return source, shape
    try:
        return source, read_image(source).size
    except ImageError as error:
        raise ValueError(f"{error}; or a size such as 1024x768") from None


def row(name: str, shape: tuple[int, int], layout: Layout, prompt: int) -> dict:
    """Counts of one image."""
    counts = count_kinds(layout)
    visual = sum(counts.values())
    return {"image": name, "width": shape[0], "height": shape[1]} | counts | {
        "visual_tokens": visual, "prompt_tokens": prompt, "visual_per_prompt": round(visual / prompt, 2),
    }  # fmt: skip


def table(rows: list[dict], counted: str) -> str:
    """Aligned columns, and what the prompt's count holds."""
    heads = ("image", "size", "thumbnail", "tiles", "newlines", "visual", "prompt", "visual/prompt")
    body = [
        (one["image"], f"{one['width']}x{one['height']}", one["thumbnail"], one["tiles"], one["newlines"],
         one["visual_tokens"], one["prompt_tokens"], f"{one['visual_per_prompt']:.1f}")
        for one in rows
    ]  # fmt: skip
    texts = [[str(cell) for cell in line] for line in (heads, *body)]
    widths = [max(len(line[i]) for line in texts) for i in range(len(heads))]
    lines = ["  ".join([line[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(line[1:], widths[1:]))])
             for line in texts]  # fmt: skip
    return "\n".join([*lines, f"prompt: {counted}"])
