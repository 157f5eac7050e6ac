"""Train a mini DVLM: `python -m analysis.train_mini`, from nothing, or its autoregressive control with `--causal`.

With `--host lavida` it is the one of LaViDa's kind, which starts from the weights of `--teacher mini/llada_v`.
With `--adapt mini/llava_ar` it is a diffusion model that goes on from the control's weights.
Runs in stages on a CPU (or `--device cuda`), resumes by itself after a kill, keeps the weights with
the best dev score, and exports them as a folder that `from_pretrained` loads.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from analysis import paths


def main(arguments: list[str] | None = None) -> int:
    """Parse options and train or export. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m analysis.train_mini", description=__doc__.splitlines()[0])
    parser.add_argument("--family", action="append", help="a benchmark to train on; repeat for several (default: all)")
    parser.add_argument("--name", default="llada_v", metavar="NAME", help="the run's folder under data/runs/training")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after this long; run again to go on")
    parser.add_argument("--pace", type=float, default=1.0, help="multiplies the steps of every stage")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--causal", action="store_true", help="train the autoregressive control")
    parser.add_argument("--tower", metavar="NAME", help="start after the vision stage, with the tower of another run")
    parser.add_argument("--host", default="llada_v", help="whose mini model: llada_v (default) or lavida")
    parser.add_argument("--teacher", metavar="MODEL", help="the mini model that one of another host starts from")
    parser.add_argument("--adapt", metavar="MODEL", help="make a diffusion model of this autoregressive mini model")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--dev-minutes", type=float, default=5.0, help="time between dev scores")
    parser.add_argument("--out", type=Path, help="where to export the trained model")
    parser.add_argument("--export-only", action="store_true", help="export the best weights so far and stop")
    parser.add_argument("--test-n", type=int, default=300, help="test samples a family for the model card")
    options = parser.parse_args(arguments)

    import torch

    from analysis.benchmarks import FAMILIES, get
    from analysis.training import designs
    from analysis.training.export import export
    from analysis.training.loop import Options, Run, check
    from analysis.training.stages import scaled

    families = tuple(dict.fromkeys(options.family or FAMILIES))
    try:
        for family in families:
            get(family)
        for name in ("pace", "minutes", "threads", "test_n", "dev_minutes"):
            if getattr(options, name) <= 0:
                raise ValueError(f"--{name.replace('_', '-')} is {getattr(options, name)}, expected more than 0")
        if options.export_only and not options.out:
            raise ValueError("--export-only is given without --out, expected a folder to export to")
        check(options.host, options.teacher, options.causal, options.tower, options.adapt)
        torch.empty(1, device=options.device)
    except (ValueError, RuntimeError, AssertionError) as error:
        print(str(error).splitlines()[0], file=sys.stderr)
        return 2
    torch.set_num_threads(options.threads)
    folder = paths.RUNS / "training" / options.name
    try:
        if not options.export_only:
            stages = scaled(options.pace, designs.get(options.host).taught, bool(options.adapt))
            run = Run(Options(families, options.seed, stages, folder, options.minutes, options.device,
                              options.causal, paths.RUNS / "training" / options.tower if options.tower else None,
                              options.device == "cpu" and not options.no_compile, dev_minutes=options.dev_minutes,
                              host=options.host, teacher=options.teacher, adapt=options.adapt))
            if not run.train():
                print(f"stopped at the limit after step {run.progress.step}; run the same command to go on")
        if options.out:
            export(folder, options.out, families, options.seed, options.test_n, options.causal, _command(options),
                   options.host, bool(options.adapt))
    except (ValueError, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _command(options: argparse.Namespace) -> str:
    """The command that trains this model, as its card shows it."""
    words = [f"--family {name}" for name in options.family or ()] + [f"--name {options.name}", f"--seed {options.seed}"]
    words += [f"--host {options.host} --teacher {options.teacher}"] if options.teacher else []
    words += [f"--adapt {options.adapt}"] if options.adapt else []
    words += ["--causal"] if options.causal else []
    words += [f"--tower {options.tower}"] if options.tower else []
    words += [f"--pace {options.pace:g}"] if options.pace != 1 else []
    return " ".join(["python -m analysis.train_mini", *words, f"--out {paths.shown(options.out)}"])


if __name__ == "__main__":
    sys.exit(main())
