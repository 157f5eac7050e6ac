"""Models without their weights: shapes by name, and what a folder's config tells of layouts and prompts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import LlamaConfig, LlavaOnevisionConfig

from redvtp.model import host_class, model_folder
from redvtp.models.anyres import config_layout, padded_layout, squashed_layout
from redvtp.models.checkpoint import read_tokenizer
from redvtp.models.config import image_aspect
from redvtp.models.files import read_json
from redvtp.models.lavida import Lavida
from redvtp.models.lavida_layout import lavida_layout, pooled_side
from redvtp.models.prompts import LLADA_V_SYSTEM, render, tokenize, user_text
from redvtp.models.published import HEAD_ROWS, true_config
from redvtp.sequence import Layout

MINI = "mini/llada_v"


@dataclass(frozen=True)
class Unloaded:
    """A model folder as its config tells it: what a host says of itself before any weight is read."""

    name: str
    can: frozenset[str]
    layers: int
    config: LlavaOnevisionConfig
    folder: Path
    own: dict
    aspect: str

    def layout(self, width: int, height: int) -> Layout:
        """Visual tokens of one image."""
        vision = self.config.vision_config
        side = vision.image_size // vision.patch_size
        if self.aspect != "anyres":
            return (padded_layout if self.aspect == "pad" else squashed_layout)(0, width, height, side)
        if self.name == Lavida.name:
            pinpoints = self.config.image_grid_pinpoints
            return lavida_layout(0, width, height, pinpoints, vision.image_size, pooled_side(side))
        return config_layout(self.config, width, height)

    def prompt_tokens(self, question: str) -> int:
        """Text tokens of a prompt with one image, special tokens included."""
        system = self.own.get("system_prompt", LLADA_V_SYSTEM)
        text = render(system, user_text(question, 1))
        return sum(map(len, tokenize(read_tokenizer(self.folder), text, self.own.get("keep_newline", False))))


def unloaded(name: str) -> Unloaded:
    """A model by name or folder, its config alone. Raises CheckpointError for what is none of a known host."""
    folder = model_folder(name)
    host = host_class(folder)
    config = read_json(folder / "config.json")
    own = read_json(folder / "redvtp.json") if (folder / "redvtp.json").is_file() else {}
    saved = config.get("model_type") == LlavaOnevisionConfig.model_type
    translated = LlavaOnevisionConfig.from_dict(config) if saved else host.translate(config)
    aspect = "anyres" if saved else image_aspect(config, host.inferred["image_aspect_ratio"])[0]
    layers = translated.text_config.num_hidden_layers
    return Unloaded(host.name, host.can, layers, translated, folder, own, own.get("aspect", aspect))


def text_config(shape: str) -> LlamaConfig:
    """The language model of a published shape ("llada_v", "lavida"), of the shipped model ("mini"), or of a folder."""
    if shape in HEAD_ROWS:
        return true_config(shape).text_config
    return unloaded(MINI if shape == "mini" else shape).config.text_config
