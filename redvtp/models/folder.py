"""A model folder as its small files and the headers of its large ones tell it: what can be wrong, before loading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration

from redvtp.models.checkpoint import check_fit, is_used, read_tokenizer, trim_vocabulary
from redvtp.models.config import image_aspect, read_pinpoints
from redvtp.models.files import CheckpointError, read_json
from redvtp.models.prompts import LLADA_V_SYSTEM, MARKER, TOKENS_BEFORE_IMAGE, render, user_text
from redvtp.models.shards import Stored, stored_tensors

if TYPE_CHECKING:
    from redvtp.models.llava import LlavaHost

LLADA_TOKENS = 126_080
"""Of LLaDA's tokenizer without its special ones (official_code §2.1); only there 47 tokens come before the image."""

EMBEDDING, HEAD = "model.language_model.embed_tokens.weight", "lm_head.weight"


@dataclass(frozen=True)
class Folder:
    """A folder that can be loaded.

    Attributes:
        path: the folder.
        saved: whether transformers' ``save_pretrained`` wrote it; else it is in official naming.
        config: transformers', vocabulary trimmed.
        tokenizer: its own; None where the config names the special tokens itself.
        stored: the model's tensors; as named in the files where saved.
        options: of the host.
        notes: where the official config says otherwise than was inferred.
        dtype: of the weights where the caller names none.
    """

    path: Path
    saved: bool
    config: LlavaOnevisionConfig
    tokenizer: Any
    stored: Mapping[str, Stored]
    options: Mapping[str, Any]
    notes: Sequence[str]
    dtype: torch.dtype

    @property
    def numbers(self) -> int:
        """Parameters."""
        return sum(one.numbers for one in self.stored.values())

    @classmethod
    def read(cls, folder: str | Path, host: type[LlavaHost]) -> Folder:
        """The folder of that host.

        Raises:
            CheckpointError: in one line, what is missing, unreadable or does not fit.
        """
        path = Path(folder)
        official = read_json(path / "config.json")
        own = read_json(path / "redvtp.json") if (path / "redvtp.json").is_file() else {}
        options = {key: own[key] for key in ("aspect", "system_prompt", "keep_newline") if key in own}
        if official.get("model_type") == LlavaOnevisionConfig.model_type:
            config, tokenizer = LlavaOnevisionConfig.from_dict(official), read_tokenizer(path)
            return cls(path, True, config, tokenizer, stored_tensors(path), options, (), torch.float32)
        config = host.translate(official)
        options = {"aspect": image_aspect(official, host.inferred["image_aspect_ratio"])[0]} | options
        specials = host.own_specials(official)
        tokenizer = None if specials else read_tokenizer(path)
        layers = config.vision_config.num_hidden_layers
        stored = {host.tensor_name(name): one for name, one in stored_tensors(path).items() if is_used(name, layers)}
        if host.ties_head(official) and EMBEDDING in stored:
            stored[HEAD] = stored[EMBEDDING]
        if not any(name.startswith("model.vision_tower.") for name in stored):
            raise CheckpointError(f"{path} has no tensor of the vision tower; expected it with the language model's")
        trims = own.get("trim_vocabulary", host.trims_vocabulary(official))
        if trims and tokenizer is not None and len(tokenizer) < config.text_config.vocab_size:
            stored = trim_vocabulary(stored, len(tokenizer))
            config.text_config.vocab_size = len(tokenizer)
        with torch.device("meta"):
            check_fit(path, LlavaOnevisionForConditionalGeneration(config), stored)
        notes = differences(official, host.inferred, config.vision_config.image_size)
        if tokenizer is not None and len(tokenizer) >= LLADA_TOKENS:
            notes += Opening.of(tokenizer, options).notes()
        return cls(path, False, config, tokenizer, stored, options | specials, notes, host.published_dtype)


@dataclass(frozen=True)
class Opening:
    """The prompt around its image.

    Attributes:
        index: tokens before the image.
        dropped: text of the token behind the marker, which the official tokenisation drops.
        usual: whether the system text is the official one.
        keeps: whether that token is kept here.
    """

    index: int
    dropped: str
    usual: bool
    keeps: bool

    @classmethod
    def of(cls, tokenizer: Any, options: Mapping[str, Any]) -> Opening:
        """As this tokenizer and a folder's options make it."""
        system = options.get("system_prompt", LLADA_V_SYSTEM)
        before, behind = render(system, user_text("What?", 1)).split(MARKER)
        index = len(tokenizer(before, add_special_tokens=False).input_ids)
        first = tokenizer.decode(tokenizer(behind, add_special_tokens=False).input_ids[:1])
        return cls(index, first, system == LLADA_V_SYSTEM, bool(options.get("keep_newline")))

    def notes(self) -> list[str]:
        """Where it is other than inferred from the code (official_code §2.6)."""
        found = []
        if self.usual and self.index != TOKENS_BEFORE_IMAGE:
            found.append(f"the image begins at token {self.index}, not {TOKENS_BEFORE_IMAGE} as inferred")
        if self.dropped != "\n" and not self.keeps:
            found.append(f"the official rule drops {self.dropped!r} behind the image, not a newline as inferred")
        return found


def differences(official: Mapping, inferred: Mapping, crop: int) -> list[str]:
    """Settings that an official config has and that are other than inferred; canvases are counted in crops."""
    found = []
    for key, expected in inferred.items():
        if key not in official:
            continue
        value = official[key]
        if key == "image_grid_pinpoints":
            if value is None or [list(one) for one in expected] == [
                [wide // crop, high // crop] for wide, high in read_pinpoints(value, crop, expected)
            ]:
                continue
            found.append(f"{key} are other canvases than inferred")
        elif value != expected:
            found.append(f"{key} is {value!r}, not {expected!r} as inferred")
    return found
