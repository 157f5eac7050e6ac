"""``python -m tests.parity DIR...``: compare redvtp with the official code's tensors below each folder.

The last line counts the cases; the exit status is 1 where one failed, could not be read, or there was none.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from redvtp.models.lavida import Lavida
from tests.parity import behaviour, forward, generation, lowprec, schedules, vision
from tests.parity.cases import Case, Hosts, find_cases
from tests.parity.comparison import Comparison, Skipped

KINDS = {
    "forward": forward.run,
    "generate": generation.run,
    "redvtp": generation.run,
    "redvtp_restored": generation.run,
    "redvtp_published": generation.run,
    "e2e": generation.run,
    "full_vocab": generation.run,
    "fast_dllm": generation.run,
    "dllm_cache": generation.run,
    "vision": vision.run,
}
FILES = {
    "real_config_token_counts": vision.run_counts,
    "prompts": vision.run_prompts,
    "schedule_table": schedules.run,
}


def runner(case: Case):
    """The function that compares a case; Skipped where there is none."""
    if case.host is None:
        raise Skipped("another host model, which redvtp does not have")
    if case.name.startswith("behaviour_") and case.host is Lavida:
        return behaviour.run
    if case.name.startswith("behaviour_"):
        raise Skipped("describes where the official code crashes, which is not to be repeated")
    if case.name.endswith("_lowprec_scoring_info"):
        return lowprec.run
    if case.name in FILES:
        return FILES[case.name]
    if case.kind not in KINDS:
        raise Skipped(f"unknown kind {case.kind!r}")
    return KINDS[case.kind]


def compare(case: Case, hosts: Hosts) -> Comparison:
    """One case compared; whatever goes wrong on the way is a failure of the case."""
    found = Comparison()
    compare_with = runner(case)
    try:
        compare_with(case, found, hosts)
        tensors = case.tensors if (case.folder / f"{case.name}.safetensors").is_file() else {}
        found.finish(tensors, case.facts)
    except Skipped:
        raise
    except Exception as error:  # a broken file must not hide the cases after it
        found.failures.append(f"could not be compared: {type(error).__name__}: {str(error).splitlines()[0:1]}")
    return found


def main(arguments: list[str]) -> int:
    """Compare everything below the folders named; 0 where all is well."""
    parser = argparse.ArgumentParser(prog="python -m tests.parity", description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    cases = {case.title: case for folder in parser.parse_args(arguments).folders for case in find_cases(folder)}
    hosts, passed, failed, skipped = Hosts(), 0, 0, 0
    with torch.no_grad():
        for title, case in cases.items():
            try:
                found = compare(case, hosts)
            except Skipped as reason:
                skipped += 1
                print(f"skip {title}: {reason}", flush=True)
                continue
            passed, failed = passed + (not found.failures), failed + bool(found.failures)
            print(
                f"{'FAIL' if found.failures else 'pass'} {title}: "
                f"largest difference {found.worst:.3f} of its bar ({found.worst_name})"
            )
            for line in found.failures:
                print(f"     failed: {line}")
            for line in found.left:
                print(f"     not compared: {line}", flush=True)
    print(f"{len(cases)} cases, {passed} passed, {failed} failed, {skipped} skipped")
    return int(failed > 0 or not cases)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
