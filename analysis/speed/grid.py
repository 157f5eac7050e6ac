"""All that is measured, in groups of runs that take turns, the most important first.

The first run of a group is its baseline: the unpruned loop without a cache, of the same host, setting and batch. A
row of the result belongs to the first group that has its run; in later ones it only sets the scale.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from analysis.speed.cases import CACHES, RATIOS, SETTINGS, TINY, Run, Scale, pruned
from analysis.speed.variants import VARIANTS

MAIN = (32, 16)
"""Response tokens and steps of DocVQA and InfoVQA, the setting that most groups have."""

SIZES = ("336x336", "640x480", "1280x720", "1700x2200")
"""Images beside the main one: a small picture, a photograph, a screen, a page at 200 dpi."""

BATCHES = (2, 4, 8, 16, 32)
TRIED = ("fused", "graphs", "fused, graphs", "compile", "int8", "fp8")
assert set(TRIED) | {"plain"} == set(VARIANTS)


@dataclass(frozen=True)
class Group:
    """Runs that take turns.

    Attributes:
        runs: the first is the baseline.
        whole: whether each run goes through all of its steps; else it is composed of phases.
        kind: "runs"; "before" and "loop": the stages of the first run; "processes": ours and the official procedure
            in processes of their own, the way to a CPU process's peak memory; "check": the runs whole, to be held
            against composed ones.
    """

    name: str
    runs: tuple[Run, ...]
    whole: bool = False
    kind: str = "runs"

    @property
    def host(self) -> str:
        """Of all of its runs."""
        return self.runs[0].host


def groups(scale: Scale, device: str) -> list[Group]:
    """The groups of a scale on a device, in the order in which they are measured."""
    on_gpu = device != "cpu"
    if scale.name == "true" or on_gpu:
        found = list(on_a_gpu())
    else:
        found = list(on_a_cpu(scale))
    return [sized(group, scale) for group in found]


def sized(group: Group, scale: Scale) -> Group:
    """The group with the scale's image where it has the main one."""
    main = Run("").image
    return replace(
        group, runs=tuple(replace(run, image=scale.image) if run.image == main else run for run in group.runs)
    )


def on_a_gpu() -> Iterator[Group]:
    """True shapes: headline rows of both hosts first, then what explains them."""
    for host in ("llada_v", "lavida"):
        base = Run(host)
        yield Group(f"{host}: before the loop", (base,), kind="before")
        yield Group(f"{host}: ratios", (base, *(pruned(host, keep) for keep in (0.5, 0.25, 0.75, 0.1))), whole=True)
        yield Group(f"{host}: stages", (base,), kind="loop")
        yield official(host)
        yield Group(f"{host}: 2 tokens", setting(host, 2, 2), whole=True)
        yield methods(host)
    for host in ("lavida", "llada_v"):
        yield from caches(host)
        yield Group(f"{host}: 96 tokens", setting(host, 96, 48))
        yield Group(f"{host}: check", (pruned(host, 0.25, response=96, steps=48),), whole=True, kind="check")
        yield variants(host, ("fused", "graphs", "fused, graphs"))
    for host in ("llada_v", "lavida"):
        yield Group(f"{host}: 128 tokens", setting(host, 128, 128))
        yield Group(f"{host}: 16 tokens", setting(host, 16, 16))
        yield from images(host)
        yield from batches(host)
        yield from caches(host, blocks=2)
        for name in ("fp8", "int8", "compile"):
            yield variants(host, (name,))


def on_a_cpu(scale: Scale) -> Iterator[Group]:
    """Reduced shapes: the same groups, composed throughout, in the order of what a CPU can show."""
    host = "llada_v"
    base, half = Run(host), pruned(host, 0.5)
    headline = (base, half, replace(half, cache="fast_dllm"), pruned(host, 0.25))
    yield Group(f"{host}: before the loop", (base,), kind="before")
    yield Group(f"{host}: ratios and cache", headline)
    if scale is not TINY:
        yield Group(f"{host}: official, in processes", (pruned(host, 0.25, "official"),), kind="processes")
    yield Group(f"{host}: check", headline, whole=True, kind="check")
    yield Group(f"{host}: stages", (base,), kind="loop")
    yield Group(f"{host}: more ratios", (base, pruned(host, 0.75), pruned(host, 0.1)))
    yield methods(host)
    yield from caches(host)
    yield from caches(host, blocks=2)
    yield variants(host, TRIED)
    for response, steps in ((2, 2), (16, 16), (96, 48), (128, 128)):
        yield Group(f"{host}: {response} tokens", setting(host, response, steps))
    yield from (Group(f"{host}: batch {size}", batch(host, size)) for size in (2, 4))
    host = "lavida"
    yield Group(f"{host}: before the loop", (Run(host),), kind="before")
    yield Group(f"{host}: ratios", setting(host, *MAIN))
    yield Group(f"{host}: stages", (Run(host),), kind="loop")
    yield official(host)
    yield from caches(host)
    yield from caches(host, blocks=2)


def setting(host: str, response: int, steps: int) -> tuple[Run, ...]:
    """The unpruned run and every ratio."""
    others = {"response": response, "steps": steps}
    return (Run(host, **others), *(pruned(host, keep, **others) for keep in (0.5, 0.25, 0.75, 0.1)))


def official(host: str) -> Group:
    """The official procedure at the ratios of ours, and its own baseline, composed."""
    theirs = [Run(host, method="official")] + [pruned(host, keep, "official") for keep in (0.5, 0.25)]
    return Group(f"{host}: official", (Run(host), pruned(host, 0.5), pruned(host, 0.25), *theirs))


def caches(host: str, blocks: int = 1) -> Iterator[Group]:
    """Caches of so many blocks with and without pruning; several blocks are only measured whole."""
    for name, (policy, own) in CACHES.items():
        if policy is None or own != blocks:
            continue
        cached = [replace(run, cache=name) for run in (pruned(host, 0.5), Run(host), pruned(host, 0.25))]
        shown = (Run(host), pruned(host, 0.5), *cached)
        yield Group(f"{host}: {name}", shown, whole=blocks > 1)


def variants(host: str, names: tuple[str, ...]) -> Group:
    """Other ways to run the network, unpruned and pruned."""
    tried = [replace(run, variant=name) for name in names for run in (Run(host), pruned(host, 0.5), pruned(host, 0.25))]
    return Group(f"{host}: {'variants' if len(names) > 1 else names[0]}", (Run(host), *tried))


def methods(host: str) -> Group:
    """Other methods and places of a cut, and attention by maps."""
    return Group(
        f"{host}: methods",
        (
            Run(host),
            pruned(host, 0.5, "fastv", attention="maps"),
            pruned(host, 0.5, "fastv"),
            pruned(host, 0.5, "llada_fastv"),
            pruned(host, 0.25, "divprune"),
            pruned(host, 0.25, start="half"),
            pruned(host, 0.5, attention="maps"),
            pruned(host, 0.5, "sparsevlm", attention="maps"),
        ),
    )


def images(host: str) -> Iterator[Group]:
    """Other sizes of the image."""
    for size in SIZES:
        yield Group(
            f"{host}: {size}", (Run(host, image=size), pruned(host, 0.5, image=size), pruned(host, 0.25, image=size))
        )


def batches(host: str) -> Iterator[Group]:
    """Batches, smallest first."""
    for size in BATCHES:
        yield Group(f"{host}: batch {size}", batch(host, size))


def batch(host: str, size: int) -> tuple[Run, ...]:
    """One batch at three ratios."""
    return Run(host, batch=size), pruned(host, 0.5, batch=size), pruned(host, 0.25, batch=size)


def owners(found: list[Group]) -> dict[Run, str]:
    """The group that each run's row belongs to, in order."""
    owned: dict[Run, str] = {}
    for group in found:
        if group.kind in ("runs", "processes"):
            for run in group.runs:
                owned.setdefault(run, group.name)
    return owned


__all__ = ["MAIN", "RATIOS", "SETTINGS", "Group", "groups", "owners"]
