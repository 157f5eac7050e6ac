"""Finding and reading the cases below a folder, and the models that they ran on."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import LlavaOnevisionForConditionalGeneration

from redvtp.models.llada_v import LladaV, host_config

NO_CASES = ("weights_",)  # folders beside the kind folders
RECIPE = "weights_recipe"
MODEL_ONLY = "model_without_embed_and_lm_head"


@dataclass(frozen=True)
class Case:
    """One recorded run: ``<family>/<kind>/<name>.json`` and its tensors and images."""

    family: Path
    kind: str
    name: str

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        return self.family / self.kind

    @property
    def title(self) -> str:
        """How it is printed."""
        return "/".join(part for part in (self.family.name, self.kind, self.name) if part)

    @cached_property
    def facts(self) -> dict[str, Any]:
        """The JSON beside the tensors."""
        return json.loads((self.folder / f"{self.name}.json").read_text(encoding="utf-8"))

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Its tensors; ValueError where one that the JSON lists is missing or has another shape."""
        tensors = load_file(self.folder / f"{self.name}.safetensors")
        for name, listed in self.facts.get("tensors", {}).items():
            if name not in tensors or list(tensors[name].shape) != listed["shape"]:
                raise ValueError(f"tensor {name} of shape {listed['shape']} is listed in the JSON but not there")
        return tensors

    def shared_tensor(self, name: str) -> Tensor:
        """A tensor that may be stored with another case of the folder (fact ``<name>_in``)."""
        if name in self.tensors:
            return self.tensors[name]
        return load_file(self.folder / self.facts[f"{name}_in"])[name]

    def images(self) -> list[np.ndarray]:
        """Its images in order."""
        with np.load(self.folder / (self.facts.get("images") or self.facts["image"])) as stored:
            return [stored[key] for key in sorted(stored.files, key=lambda key: (len(key), key))]

    @property
    def is_llada_v(self) -> bool:
        """False where the weights beside the kind folder are another model's."""
        for config in sorted(self.family.glob("weights_*/config.json")):
            try:
                return json.loads(config.read_text(encoding="utf-8"))["architectures"] == ["LlavaLLaDAModelLM"]
            except (OSError, ValueError, KeyError):
                continue
        return True


def find_cases(folder: Path) -> list[Case]:
    """All cases at or below ``folder``, in order of their paths."""
    found = set()
    for suffix in ("json", "safetensors"):
        for path in folder.resolve().rglob(f"*.{suffix}"):
            if path.parent.name.startswith(NO_CASES) or path.stem in (RECIPE, MODEL_ONLY):
                continue
            # Files directly in a family's folder stand beside its weights; all others in a kind folder.
            weights = any(other.is_dir() for other in path.parent.glob("weights_*"))
            in_family = weights or path.stem.startswith("behaviour_")
            family, kind = (path.parent, "") if in_family else (path.parent.parent, path.parent.name)
            found.add(Case(family, kind, path.stem))
    return sorted(found, key=lambda case: (str(case.family), case.kind, case.name))


@dataclass
class Hosts:
    """Models by folder, each loaded once."""

    loaded: dict[Path, LladaV] = field(default_factory=dict)

    def of(self, case: Case) -> LladaV:
        """The host a case ran on, with the case's own special ids and image mode."""
        folder = case.folder if case.kind == "full_vocab" else case.family / f"weights_{case.facts['weights']}"
        if folder not in self.loaded:
            self.loaded[folder] = full_vocabulary(folder) if case.kind == "full_vocab" else LladaV.from_folder(folder)
        host = copy.copy(self.loaded[folder])
        host.mask_id = case.facts.get("mask_id", host.mask_id)
        host.banned_ids = tuple(case.facts.get("suppressed_ids", host.banned_ids))
        if case.facts.get("image_aspect_ratio") == "pad":
            host.aspect = "pad"
        for fact, factor in case.facts.items():
            if fact.startswith("lm_head_row_") and fact.endswith("_multiplied_by"):
                host.model = copy.deepcopy(host.model)
                with torch.no_grad():
                    host.model.lm_head.weight[int(fact.split("_")[3])] *= factor
        return host


def full_vocabulary(folder: Path) -> LladaV:
    """The model with the published vocabulary: embeddings and head from a recipe, a tiny random vision tower."""
    recipe = json.loads((folder / f"{RECIPE}.json").read_text(encoding="utf-8"))
    tensors = load_file(folder / f"{MODEL_ONLY}.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        shape = (recipe["config"]["vocab_size"], recipe["config"]["hidden_size"])
        draws = np.random.Generator(np.random.PCG64(recipe[name]["seed"])).random(shape, dtype=np.float32)
        values = (draws - np.float32(0.5)) * np.float32(recipe[name]["scale"])
        digest = hashlib.sha256(values.tobytes()).hexdigest()
        if digest != recipe[name]["sha256"]:
            raise ValueError(f"{name}: the recipe gives sha256 {digest[:12]}, expected {recipe[name]['sha256'][:12]}")
        tensors[name] = torch.from_numpy(values)
    vision = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers_used": 1, "num_attention_heads": 1}
    model = LlavaOnevisionForConditionalGeneration(host_config({**recipe["config"], "vision_config": vision}))
    model.lm_head.load_state_dict({"weight": tensors.pop("lm_head.weight")})
    model.model.language_model.load_state_dict({name.removeprefix("model."): v for name, v in tensors.items()})
    ids = recipe["config"]
    return LladaV(model, None, mask_id=126336, banned_ids=(ids["eos_token_id"], ids["bos_token_id"], 126346, 126347))
