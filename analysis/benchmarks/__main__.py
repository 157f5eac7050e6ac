"""`python -m analysis.benchmarks`: what each family is, how fast it is drawn, and the hash of its test samples."""

from __future__ import annotations

import argparse
import time

from analysis.benchmarks import FAMILIES, data_hash


def main() -> None:
    """One line a family: protocol, images a second on one core, sha256 of the first test samples."""
    parser = argparse.ArgumentParser(prog="python -m analysis.benchmarks", description=main.__doc__)
    parser.add_argument("-n", type=int, default=300, help="test samples a family (default: 300)")
    count = parser.parse_args().n
    for family in FAMILIES.values():
        family.sample("train", 0, 0)  # fonts and shapes are rendered once
        started = time.perf_counter()
        samples = family.samples("test", count)
        speed = count / (time.perf_counter() - started)
        protocol = f"{family.protocol.length} tokens in {family.protocol.steps} steps"
        print(f"{family.name:12}{family.mirrors:13}{protocol:24}{speed:6.0f} images/s  {data_hash(samples)}")


if __name__ == "__main__":
    main()
