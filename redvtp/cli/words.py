"""Words of the command line: what they mean, or one line that names the word and what was expected."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from redvtp.pruning import METHODS, Pruner, get
from redvtp.selection import Budget, Count, Share

NONE = "none"
"""The word for a run without pruning."""

KEEP = "a share such as 25% or 0.25, or a number of tokens such as 300t"
KEEP_HELP = (
    "visual tokens kept: a share, as 25%% or 0.25, of the sample's own visual tokens, or a number of tokens, as 300t. "
    "A bare whole number is refused, for 1 could mean all or one"
)


class Parser(argparse.ArgumentParser):
    """argparse with one-line errors, examples as written, and no abbreviated options."""

    def __init__(self, prog: str, description: str = "", epilog: str = "", **rest: Any) -> None:
        super().__init__(
            prog=prog,
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
            **rest,
        )

    def error(self, message: str) -> NoReturn:
        """Say what is wrong in one line and exit with code 2."""
        self.exit(2, f"{self.prog}: {' '.join(message.split())}\n")


def budget(text: str) -> Share | Count:
    """``25%`` and ``0.25`` are shares, ``300t`` a number of tokens."""
    try:
        if re.fullmatch(r"\d+(\.\d*)?%", text):
            return Share(float(text[:-1]) / 100)
        if re.fullmatch(r"\d*\.\d+|\d+\.\d*", text):
            return Share(float(text))
        if re.fullmatch(r"\d+t", text):
            return Count(int(text[:-1]))
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(f"{text!r}: expected {KEEP}")


def budget_word(keep: Budget | None) -> str | None:
    """A budget as it is written; None for none."""
    if keep is None:
        return None
    return f"{100 * keep.ratio:g}%" if isinstance(keep, Share) else f"{keep.n}t"


def whole(least: int) -> Callable[[str], int]:
    """A reader of whole numbers from ``least`` on."""

    def read(text: str) -> int:
        if not re.fullmatch(r"-?\d+", text) or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number, {least} or more")
        return int(text)

    return read


def number(text: str) -> float:
    """A number, or what was expected."""
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number") from None


def size(text: str) -> tuple[int, int] | None:
    """(width, height) of ``1024x768``; None for what is no size."""
    found = re.fullmatch(r"([1-9]\d*)[xX]([1-9]\d*)", text)
    return (int(found[1]), int(found[2])) if found else None


def method_options(pairs: Sequence[str], method: str) -> dict[str, Any]:
    """A method's own parameters from ``NAME=VALUE`` words; a value is JSON where it can be, else a text.

    Raises:
        ValueError: a name that the method has not, or no ``=``.
    """
    names = [field.name for field in dataclasses.fields(get(method)) if field.name != "keep"]
    found: dict[str, Any] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals or name not in names:
            raise ValueError(f"--option {pair!r}: expected NAME=VALUE with NAME one of {', '.join(names)}")
        try:
            read = json.loads(value)
        except ValueError:
            read = value
        found[name] = tuple(read) if isinstance(read, list) else read
    return found


def pruner_of(method: str, keep: Budget | None, pairs: Sequence[str] = (), default: str = "50%") -> Pruner | None:
    """The method that the words ask for; None for ``none``.

    Raises:
        ValueError: words that do not go together, or that the method refuses.
    """
    if method == NONE:
        if keep is not None or pairs:
            raise ValueError(f"--method {NONE}: nothing is pruned, so --keep and --option do not go with it")
        return None
    return get(method)(keep=keep or budget(default), **method_options(pairs, method))


def add_method(parser: argparse.ArgumentParser, default: str = "50%") -> None:
    """Adds --keep, --method and --option."""
    methods = ", ".join(sorted(METHODS))
    parser.add_argument("--keep", type=budget, metavar="SHARE", help=f"{KEEP_HELP} (default: {default}%)")
    parser.add_argument(
        "--method", default="redvtp", choices=[*sorted(METHODS), NONE], metavar="NAME",
        help=f"what is kept: {methods}, or {NONE} for no pruning (default: redvtp)",
    )  # fmt: skip
    parser.add_argument(
        "--option", action="append", default=[], metavar="NAME=VALUE",
        help="a parameter of the method, may be repeated: rows=prompt, step=2, layers=[1,2], positions=original",
    )  # fmt: skip
