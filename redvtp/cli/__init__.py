"""The command line: ``python -m redvtp generate | tokens | flops | doctor``."""

from __future__ import annotations

from collections.abc import Sequence

from redvtp.cli import doctor, flops, generate, tokens
from redvtp.cli.words import Parser
from redvtp.models.files import CheckpointError

EXAMPLES = """\
examples:
  python -m redvtp generate page.png "What is TOTAL?" --keep 25% --save-map kept.png
  python -m redvtp generate questions.jsonl --out answers.jsonl
  python -m redvtp tokens 1024x768 page.png --layout llada_v
  python -m redvtp flops --visual 3699 --prompt 80 --response 32 --steps 16 --keep 25%
  python -m redvtp doctor GSAI-ML/LLaDA-V

`python -m redvtp COMMAND --help` says the rest. Exit codes: 0; 1 where a sample or a file failed; 2 for words or
inputs that cannot be meant, in one line and before any weights are loaded; 130 where it was interrupted.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line and return the exit code; SystemExit for --help and for words that cannot be meant."""
    about = "Answers of diffusion vision-language models with pruned visual tokens; what they cost, without weights."
    parser = Parser("python -m redvtp", about, EXAMPLES)
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for module in (generate, tokens, flops, doctor):
        module.add(commands)
    arguments = parser.parse_args(argv)
    try:
        return arguments.run(arguments)
    except CheckpointError as error:
        arguments.parser.error(str(error))
