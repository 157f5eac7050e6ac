"""What ``--model_args`` and ``--gen_kwargs`` mean: a method, a cache, and how an answer is decoded.

Names are flat, for the fields of methods, caches and settings do not collide:
``method=redvtp,keep=0.25,rows=prompt,cache=fast_dllm,refresh=16,steps=8``.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from redvtp import caching, pruning
from redvtp.caching import CachePolicy
from redvtp.cli.words import KEEP, NONE, budget
from redvtp.generation.settings import Settings
from redvtp.lmms.tasks import PROTOCOLS, THINK, decoded
from redvtp.pruning import Pruner
from redvtp.selection import Budget, Count, Share

OFFICIAL = {
    "gen_length": "length",
    "gen_steps": "steps",
    "cfg": "cfg_scale",
    "stopping_criteria": "stop",
    "think_mode": "think",
    "schedule__shift": "shift",
}
"""The official evaluations' words for ours."""

INERT = frozenset(
    """
    until max_new_tokens max_gen_toks max_tokens do_sample top_p top_k num_beams n best_of num_return_sequences
    repetition_penalty image_aspect_ratio
    """.split()
)
"""Words in lmms-eval's tasks that mean nothing here: answers have ``length`` tokens, whatever a task gives an
autoregressive model, and official code drops ``until`` (official_code §3)."""

SETTINGS = frozenset(one.name for one in dataclasses.fields(Settings))
STEPS = ("steps", "step_ratio", "step_per_block", "threshold", "factor")


@dataclass(frozen=True)
class Arguments:
    """What a run is, whatever the task.

    Attributes:
        pruner: the method, None for none. cache: None for none.
        settings: fields of redvtp.generation.Settings, and ``think``, given for all tasks.
        protocol: whose settings fill in the rest.
    """

    host: str
    pruner: Pruner | None = None
    cache: CachePolicy | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    protocol: str = PROTOCOLS[0]

    def decoding(self, task: str, given: Mapping[str, Any] | None = None) -> tuple[Settings, str]:
        """Settings of a task's answers, and what is put behind its questions.

        What counts is, in this order: ``given``, the request's generation keywords; the run's own; the table's.

        Raises:
            ValueError: an unknown word, or settings that contradict each other.
        """
        table = dataclasses.asdict(decoded(task, self.host, self.protocol))
        found = table
        for words in (self.settings, generation_words(given or {})):
            found = overridden(found, words)
        think = found.pop("think")
        if think not in THINK:
            raise ValueError(f"think={think!r}: expected one of {', '.join(THINK)}")
        return Settings(**found | {"stop": tuple(found["stop"])}), THINK[think]

    @property
    def method(self) -> str:
        """The method's name, or "none"."""
        return self.pruner.name if self.pruner else NONE

    def unusual(self, task: str, given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What of the method, the cache and the decoding of a task is not as usual: the method's and the cache's
        defaults, and the official settings. Budgets are not among them."""
        found = {}
        for one in filter(None, (self.pruner, self.cache)):
            for each in dataclasses.fields(one):
                if each.name != "keep" and getattr(one, each.name) != each.default:
                    found[each.name] = getattr(one, each.name)
        settings, suffix = self.decoding(task, given)
        usual, usual_suffix = Arguments(self.host).decoding(task)
        for name in sorted(SETTINGS):
            if getattr(settings, name) != getattr(usual, name):
                found[name] = getattr(settings, name)
        return found | ({"think": suffix.strip()} if suffix != usual_suffix else {})


def read(host: str, given: Mapping[str, Any]) -> Arguments:
    """The run that model arguments ask for; those of the model itself (``pretrained``, ``dtype``) are not among them.

    Args:
        given: method (default: redvtp), keep (default: 50%), cache, protocol, and fields of the method, of the cache
            and of Settings, as texts, numbers or JSON.

    Raises:
        ValueError: naming the word and what was expected.
    """
    words = dict(given)
    method, cache = words.pop("method", "redvtp"), words.pop("cache", None) or NONE
    keep, protocol = words.pop("keep", None), words.pop("protocol", PROTOCOLS[0])
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol={protocol!r}: expected one of {', '.join(PROTOCOLS)}")
    if method == NONE and keep is not None and _budget(keep) != Share(1.0):
        raise ValueError(f"keep={keep!r}: nothing is pruned with method={NONE}")
    pruner_type = None if method == NONE else pruning.get(method)
    cache_type = None if cache == NONE else caching.get(cache)
    known = {"the method": _fields(pruner_type) - {"keep"}, "the cache": _fields(cache_type)}
    parts: dict[str, dict[str, Any]] = {name: {} for name in (*known, "settings")}
    for name, value in words.items():
        name = OFFICIAL.get(name, name)
        owner = next((part for part, names in known.items() if name in names), None)
        if owner is None and name not in SETTINGS | {"think"}:
            expected = sorted({"method", "keep", "cache", "protocol", "think"} | SETTINGS.union(*known.values()))
            raise ValueError(f"unknown model argument {name!r} with method={method}, cache={cache}: expected one of "
                             f"{', '.join(expected)}")  # fmt: skip
        parts[owner or "settings"][name] = _value(value)
    pruner = None
    if pruner_type is not None:
        pruner = pruner_type(keep=_budget("50%" if keep is None else keep), **parts["the method"])
    policy = None if cache_type is None else cache_type(**parts["the cache"])
    arguments = Arguments(host, pruner, policy, parts["settings"], protocol)
    arguments.decoding("docvqa_val" if "length" not in parts["settings"] else "any")  # refuses what cannot be
    return arguments


def split(text: str) -> dict[str, Any]:
    """``a=1,b=[2,3],c="x,y"`` as lmms-eval reads model arguments: commas within brackets and quotes do not part, and
    what looks like a number or a truth value is one.

    Raises:
        ValueError: a part without ``=``.
    """
    found: dict[str, Any] = {}
    for part in re.findall(r"""(?:\[[^]]*\]|\{[^}]*\}|"[^"]*"|'[^']*'|[^,])+""", text):
        name, equals, value = part.strip().partition("=")
        if not equals:
            raise ValueError(f"model argument {part.strip()!r}: expected NAME=VALUE")
        found[name] = _typed(value)
    return found


def _typed(value: str) -> str | int | float | bool:
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            pass
    return value


def generation_words(given: Mapping[str, Any]) -> dict[str, Any]:
    """Generation keywords in our words, those of autoregressive models left out.

    Raises:
        ValueError: an unknown word.
    """
    found = {}
    for name, value in given.items():
        name = OFFICIAL.get(name, name)
        if name in INERT or (name, value) == ("prefix_lm", False):
            continue
        if name == "prefix_lm":
            raise ValueError("prefix_lm: expected cache=prefix_dlm among the model arguments instead")
        if name == "remasking" and value == "entrophy":
            value = "entropy"  # LaViDa's spelling
        if name not in SETTINGS | {"think"}:
            raise ValueError(
                f"unknown generation keyword {name!r}: expected one of "
                f"{', '.join(sorted(SETTINGS | {'think'} | set(OFFICIAL)))}"
            )
        found[name] = _value(value)
    return found


def overridden(found: Mapping[str, Any], words: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with some of them replaced. A new length without a block length is one block, and new steps in
    whatever words are instead of the old ones."""
    words = {name: (value,) if name == "stop" and isinstance(value, str) else value for name, value in words.items()}
    merged = dict(found)
    if "length" in words:
        merged["block_length"] = None
    if any(name in words for name in STEPS):
        for name in STEPS:
            merged.pop(name, None)
    return merged | words


def _fields(kind: type | None) -> frozenset[str]:
    return frozenset(one.name for one in dataclasses.fields(kind)) if kind else frozenset()


def _budget(keep: Any) -> Share | Count | Budget:
    """``0.25``, ``25%`` and ``300t``; lmms-eval has made numbers of what looks like them."""
    if isinstance(keep, Budget):
        return keep
    if isinstance(keep, float) and 0 < keep <= 1:
        return Share(keep)
    try:
        return budget(str(keep))
    except Exception:
        raise ValueError(f"keep={keep!r}: expected {KEEP}") from None


def _value(value: Any) -> Any:
    """A value as lmms-eval gives it: lists, objects and null come as texts of JSON."""
    if isinstance(value, str) and (value[:1] in "[{" or value in ("null", "None")):
        try:
            value = json.loads(value) if value != "None" else None
        except ValueError:
            return value
    return tuple(value) if isinstance(value, list) else value
