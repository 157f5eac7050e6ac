"""What is measured: the shapes of the models, and what tells one run of them from another.

Time and memory do not depend on the values of weights and pixels, so both are random. The order in which random
weights commit tokens is arbitrary; how many a step commits is fixed by response and steps, and no text ends a
response early, so each run does all of its steps.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple, dataclass, fields

from redvtp.caching import CachePolicy, DLLMCache, FastDLLM, PrefixDLM
from redvtp.generation import Settings
from redvtp.models import lavida, llada_v
from redvtp.models.published import HEAD_ROWS
from redvtp.pruning import Pruner
from redvtp.pruning.base import get as method_named

HOSTS = ("llada_v", "lavida")
SETTINGS = ((2, 2), (16, 16), (32, 16), (96, 48), (128, 128))
"""Response tokens and steps: short answers, ChartQA, DocVQA and InfoVQA, MathVista (official_code §3.3), and LaViDa's
default of 128 tokens, one a step (§4.4)."""

RATIOS = (0.75, 0.5, 0.25, 0.1)
IMAGE = "1024x1024"
TEXT_BEFORE, TEXT_BEHIND = 47, 33
"""Prompt tokens around the image: the template's, and a question of 27 with what follows it."""


class NotAvailable(LookupError):
    """A run that this package, or this machine, cannot do; the message says why."""


@dataclass(frozen=True)
class Scale:
    """Size of both hosts.

    Attributes:
        hidden, layers, heads, mlp, vocabulary: of the language model; vocabulary None is each host's own.
        tower: hidden, layers, heads and MLP of the vision tower.
        crop: side of a crop in pixels; patches have 14.
        dtype: of the weights.
        words: what captions say.
    """

    name: str
    words: str
    hidden: int
    layers: int
    heads: int
    mlp: int
    vocabulary: int | None
    tower: tuple[int, int, int, int]
    crop: int = 384
    dtype: str = "float32"
    image: str = IMAGE

    def official(self, host: str) -> dict:
        """The official ``config.json`` of that size."""
        rows = self.vocabulary or HEAD_ROWS[host]
        width, layers, heads, mlp = self.tower
        vision = {"hidden_size": width, "intermediate_size": mlp, "num_hidden_layers_used": layers,
                  "num_attention_heads": heads, "image_size": self.crop}  # fmt: skip
        if host == "lavida":
            shapes = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))
            return lavida.TRUE_SHAPE | {
                "d_model": self.hidden, "mlp_hidden_size": self.mlp, "n_layers": self.layers, "n_heads": self.heads,
                "n_kv_heads": self.heads, "vocab_size": rows, "vision_config": vision,
                "image_grid_pinpoints": [[self.crop * wide, self.crop * high] for wide, high in shapes],
            }  # fmt: skip
        return llada_v.TRUE_SHAPE | {
            "hidden_size": self.hidden, "intermediate_size": self.mlp, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "num_key_value_heads": self.heads, "vocab_size": rows,
            "vision_config": vision,
        }  # fmt: skip


TRUE = Scale("true", "true 8B shapes", 4096, 32, 32, 12288, None, (1152, 26, 16, 4304), dtype="bfloat16")
REDUCED = Scale("reduced", "8 layers of width 512", 512, 8, 8, 1536, 126464, (192, 4, 4, 768))
SMALL = Scale("small", "4 layers of width 256", 256, 4, 4, 768, 8192, (64, 2, 2, 128), crop=168)
TINY = Scale("tiny", "2 layers of width 32", 32, 2, 2, 64, 512, (16, 1, 2, 32), crop=84, image="256x256")
SCALES = {scale.name: scale for scale in (TRUE, REDUCED, SMALL, TINY)}


@dataclass(frozen=True)
class Run:
    """One way to answer; the fields tell result rows apart.

    Attributes:
        host: name. variant: how the host computes (see analysis.speed.variants). batch: copies of the prompt.
        image: its size in pixels. cache: a key of `CACHES`. method: of pruning, "none", or "official", which is
            analysis.reference. attention: how scores are got: by the "probe", from "maps" written out, or "none".
        response, steps: tokens and steps. start: where the method cuts. keep: share of visual tokens.
    """

    host: str
    response: int = 32
    steps: int = 16
    keep: float = 1.0
    method: str = "none"
    start: str = "none"
    attention: str = "none"
    cache: str = "none"
    variant: str = "plain"
    batch: int = 1
    image: str = IMAGE

    @property
    def settings(self) -> Settings:
        """Of the denoising loop."""
        return Settings(length=self.response, steps=self.steps, block_length=self.response // CACHES[self.cache][1])

    @property
    def name(self) -> str:
        """In one word, for tables of times."""
        return " ".join(map(str, astuple(self)))


BY = tuple(field.name for field in fields(Run))

CACHES: Mapping[str, tuple[CachePolicy | None, int]] = {
    "none": (None, 1),
    "fast_dllm": (FastDLLM(refresh=32), 1),
    "prefix_dlm": (PrefixDLM(), 1),
    "dllm_cache": (DLLMCache(), 1),
    "fast_dllm, 2 blocks": (FastDLLM(refresh=32), 2),
    "fast_dllm dual, 2 blocks": (FastDLLM(refresh=32, dual=True), 2),
}
"""Cache and blocks of the response, by name. With one block Fast-dLLM's two caches are the same."""

PLACES = {
    "redvtp": "after step 1",
    "official": "after step 1",
    "llada_fastv": "inside step 1",
    "fastv": "every step",
    "sparsevlm": "every step",
    "divprune": "half",
}
"""Where each method cuts here."""


def pruned(host: str, keep: float, method: str = "redvtp", **others: object) -> Run:
    """A run with a method; its place and its source of attention are those it has by itself."""
    attention = {"divprune": "none", "official": "maps"}.get(method, "probe")
    return Run(host, keep=keep, method=method, **{"start": PLACES[method], "attention": attention} | others)


def cut_step(run: Run) -> int | None:
    """The step after which a lasting cut comes; None for methods that cut inside steps, or not at all."""
    return {"after step 1": 1, "half": run.steps // 2}.get(run.start)


def pruner_of(run: Run, layers: int, step: int | None = None) -> Pruner | None:
    """The method of a run.

    Args:
        step: where a cut between steps comes, if not where the run says.

    Raises:
        NotAvailable: a method that this package does not have.
    """
    if run.method in ("none", "official"):
        return None
    try:
        method = method_named(run.method)
    except ValueError:
        raise NotAvailable(f"this package has no method {run.method}") from None
    known, after = {field.name for field in fields(method)}, cut_step(run)
    if after is not None:
        if "step" not in known:
            raise NotAvailable(f"{run.method} has no parameter step")
        return method(keep=run.keep, step=after if step is None else step)
    if run.method == "fastv":
        return method(keep=run.keep, layer=min(2, layers - 1))
    return method(keep=run.keep)
