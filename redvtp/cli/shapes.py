"""Models without their weights: shapes by name or from a folder's config, layouts of images, prompts in tokens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from transformers import LlamaConfig, LlavaOnevisionConfig

from redvtp.model import DATA, HOSTS
from redvtp.models.anyres import anyres_layout, padded_layout
from redvtp.models.checkpoint import CheckpointError, read_json, read_tokenizer
from redvtp.models.lavida_layout import lavida_layout
from redvtp.models.llada_v import LladaV, host_config
from redvtp.models.prompts import LLADA_V_SYSTEM, render, tokenize, user_text
from redvtp.models.published import HEAD_ROWS, true_config
from redvtp.sequence import Layout

MINI = "mini/llada_v"
TEMPLATE_TOKENS = 53
"""Prompt tokens of LLaDA-V's template: 47 before the image, and 6 behind the question (official_code §2.6)."""


@dataclass(frozen=True)
class Unloaded:
    """A model folder as its config tells it: what a host says of itself before any weight is read."""

    name: str
    can: frozenset[str]
    layers: int
    config: LlavaOnevisionConfig
    folder: Path
    own: dict

    def layout(self, width: int, height: int) -> Layout:
        """Visual tokens of one image."""
        if self.own.get("aspect", "anyres") == "pad":
            vision = self.config.vision_config
            return padded_layout(0, width, height, vision.image_size // vision.patch_size)
        return config_layout(self.config, width, height)

    def prompt_tokens(self, question: str) -> int:
        """Text tokens of a prompt with one image, special tokens included."""
        system = self.own.get("system_prompt", LLADA_V_SYSTEM)
        text = render(system, user_text(question, 1))
        return sum(map(len, tokenize(read_tokenizer(self.folder), text, self.own.get("keep_newline", False))))


def model_folder(name: str) -> Path:
    """The folder that `redvtp.load` reads for this name. Raises CheckpointError as it does."""
    for folder in (Path(name), DATA / name):
        if name and folder.is_dir():
            return folder
    shipped = sorted(str(path.parent.relative_to(DATA)) for path in DATA.glob("mini/*/config.json"))
    raise CheckpointError(f"model {name!r}: expected a folder, or one of {', '.join(shipped) or 'none'}")


def unloaded(name: str) -> Unloaded:
    """A model by name or folder, its config alone. Raises CheckpointError for what is none of a known host."""
    folder = model_folder(name)
    config = read_json(folder / "config.json")
    own = read_json(folder / "redvtp.json") if (folder / "redvtp.json").is_file() else {}
    host = own.get("host", LladaV.name)
    if host not in HOSTS:
        raise CheckpointError(f"{folder / 'redvtp.json'}: unknown host {host!r}, expected one of {', '.join(HOSTS)}")
    saved = config.get("model_type") == LlavaOnevisionConfig.model_type
    translated = LlavaOnevisionConfig.from_dict(config) if saved else host_config(config)
    return Unloaded(host, HOSTS[host].can, translated.text_config.num_hidden_layers, translated, folder, own)


def text_config(shape: str) -> LlamaConfig:
    """The language model of a published shape ("llada_v", "lavida"), of the shipped model ("mini"), or of a folder."""
    if shape in HEAD_ROWS:
        return true_config(shape).text_config
    return unloaded(MINI if shape == "mini" else shape).config.text_config


def config_layout(config: LlavaOnevisionConfig, width: int, height: int) -> Layout:
    """The layout of one tiled image under this config."""
    vision = config.vision_config
    return anyres_layout(
        image=0,
        width=width,
        height=height,
        pinpoints=config.image_grid_pinpoints,
        crop=vision.image_size,
        patches=vision.image_size // vision.patch_size,
        max_tiles=int(config.vision_aspect_ratio.removeprefix("anyres_max_")),
    )


def published_layouts() -> dict[str, Callable[[int, int], Layout]]:
    """Layouts of one image at the published shapes, by host."""
    llada_v = true_config("llada_v")
    return {
        "llada_v": lambda width, height: config_layout(llada_v, width, height),
        "lavida": lambda width, height: lavida_layout(0, width, height),
    }
