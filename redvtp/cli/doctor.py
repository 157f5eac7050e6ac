"""``python -m redvtp doctor``: whether a model can be run here, and what is missing."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from redvtp.cli.shapes import MINI
from redvtp.diagnosis import examine

ABOUT = """\
Checks a model before it is used: whether it is here (or how to fetch it, and how large it is), disk, memory, GPU, its
files by their headers, its config and tensor names, the tokenizer's special tokens, where the image stands in the
prompt; then loads it and takes one step. Nothing is fetched and no code of a model's is run.
"""
EXAMPLES = """\
examples:
  python -m redvtp doctor                                  the shipped model
  python -m redvtp doctor GSAI-ML/LLaDA-V --no-forward
  python -m redvtp doctor my/folder --device cuda:1 --json

Exit code: 0 where every check is fine, 1 where one is not.
"""
WORDS = {True: "ok", False: "FAIL", None: "-"}


def add(commands: argparse._SubParsersAction) -> None:
    """Adds the command."""
    parser = commands.add_parser(
        "doctor", prog="python -m redvtp doctor", help="whether a model can be run here", description=ABOUT,
        epilog=EXAMPLES,
    )  # fmt: skip
    parser.add_argument(
        "model", nargs="?", default=MINI, metavar="MODEL",
        help=f"a folder, a name in data/, or one of the Hugging Face hub (default: {MINI})",
    )  # fmt: skip
    parser.add_argument("--device", default="auto", metavar="NAME", help="where it would run (default: auto)")
    parser.add_argument("--no-forward", action="store_true", help="check files only; read no weights")
    parser.add_argument("--json", action="store_true", help="a JSON line for each check")
    parser.set_defaults(run=run, parser=parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the findings as they come; the exit code."""
    failed = 0
    for one in examine(arguments.model, arguments.device, not arguments.no_forward):
        failed += one.ok is False
        if arguments.json:
            print(json.dumps(asdict(one)), flush=True)
            continue
        print(f"{WORDS[one.ok]:4}  {one.name:9}  {one.text}", flush=True)
        if one.note:
            print(f"      {'':9}  note: {one.note}; the files are followed", flush=True)
    if not arguments.json:
        print(f"{failed} check{'s' * (failed > 1)} failed" if failed else "everything is fine")
    return 1 if failed else 0
