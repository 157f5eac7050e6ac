"""``python -m redvtp.lmms``: lmms-eval's own command line, with the source hash among the model arguments."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from redvtp.lmms import MODELS
from redvtp.lmms.arguments import split
from redvtp.lmms.source import source_hash


def completed(words: Sequence[str]) -> list[str]:
    """The command's words with ``source=HASH`` at the end of the model arguments, where the model is one of ours.

    Raises:
        ValueError: a model of ours without ``pretrained``.
        CheckpointError: no such folder.
    """
    words = [part for word in words for part in (word.split("=", 1) if word.startswith("--model") else [word])]
    places = {word: place for place, word in enumerate(words[:-1]) if word in ("--model", "--model_args")}
    if "--model" not in places or words[places["--model"] + 1] not in MODELS:
        return words
    if "--model_args" not in places:
        raise ValueError("--model_args: expected pretrained=FOLDER and, if wanted, method, keep, cache and settings")
    place = places["--model_args"] + 1
    given = split(words[place])
    if "pretrained" not in given:
        raise ValueError(f"--model_args {words[place]}: expected pretrained=FOLDER among them")
    if "source" in given:
        return words
    return [*words[:place], f"{words[place]},source={source_hash(str(given['pretrained']))}", *words[place + 1 :]]


def main() -> int:
    """Hand over to lmms-eval; the exit code."""
    try:
        words = completed(sys.argv[1:])
    except ValueError as error:
        print(f"python -m redvtp.lmms: {error}", file=sys.stderr)
        return 2
    try:
        from lmms_eval.__main__ import cli_evaluate
    except ImportError as error:
        print(f"python -m redvtp.lmms: needs lmms-eval ({error}): pip install 'redvtp[lmms]'", file=sys.stderr)
        return 1
    sys.argv[1:] = words
    cli_evaluate()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
