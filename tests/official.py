"""Folders in the layout of the published checkpoints: their words and names, several files, a small shape."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import LlavaOnevisionForConditionalGeneration

from redvtp.models.checkpoint import LLADA_V_NAMES
from redvtp.models.lavida import BLOCK_PARTS, OUTER_NAMES, Lavida
from redvtp.models.llada_v import LladaV
from redvtp.models.shards import INDEX
from tests.tiny import CROP, LAVIDA_SHAPE, SHAPE, build_tokenizer, randomise

FILES = 3
SURPLUS_ROWS = 7
HOSTS = {"llada_v": LladaV, "lavida": Lavida}
# As the published files have them: a model type of their own, and code that is not to be run.
REMOTE = {"auto_map": {"AutoConfig": "configuration_llada.LLaDAConfig", "AutoTokenizer": ["tokenization.No", None]}}
POISON = "raise SystemExit('code of a model was run')\n"


def official_config(kind: str) -> dict:
    """An official config.json; the vocabulary has rows that the tokenizer has not."""
    rows = len(build_tokenizer()) + SURPLUS_ROWS
    images = {"mm_patch_merge_type": "spatial_unpad", "mm_projector_type": "mlp2x_gelu", "mm_newline_position": "grid"}
    common = {"vocab_size": rows, **images, **REMOTE}
    if kind == "llada_v":
        words = {"architectures": ["LlavaLLaDAModelLM"], "model_type": "llava_llada", "tie_word_embeddings": False}
        canvases = [[CROP * i, CROP * j] for i in range(1, 7) for j in range(1, 7)]
        return {**SHAPE, "num_key_value_heads": 4, "image_grid_pinpoints": canvases, **words, **common}
    words = {"architectures": ["LlavaLladaForMaskedDiffusion"], "model_type": "llava_llada", "embedding_size": rows}
    return {**LAVIDA_SHAPE, **words, **common, "mm_spatial_pool_mode": "bilinear"}


def official_name(kind: str, name: str) -> str:
    """The official name of one of our tensors: the map, read the other way."""
    parts = {ours: theirs for theirs, ours in BLOCK_PARTS.items()}
    if kind == "lavida" and name.startswith("model.language_model.layers."):
        number, part = name.removeprefix("model.language_model.layers.").split(".", 1)
        part, leaf = part.rsplit(".", 1)
        return f"model.transformer.blocks.{number}.{parts[part]}.{leaf}"
    table = LLADA_V_NAMES if kind == "llada_v" else OUTER_NAMES
    for theirs, ours in sorted(table, key=lambda pair: -len(pair[1])):
        if name.startswith(ours):
            return theirs + name[len(ours) :]
    raise AssertionError(name)


def official_tensors(kind: str) -> dict[str, Tensor]:
    """Random weights by their official names, in bf16."""
    model = LlavaOnevisionForConditionalGeneration(HOSTS[kind].translate(official_config(kind)))
    randomise(model, seed=4, gain=3.0)
    return {official_name(kind, name): value.to(torch.bfloat16) for name, value in model.state_dict().items()}


def write_official(folder: Path, kind: str, tensors: dict[str, Tensor], files: int = FILES) -> Path:
    """The whole folder: config, tokenizer, files with an index, and code that must not be run."""
    folder.mkdir(parents=True, exist_ok=True)
    build_tokenizer().save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(official_config(kind)))
    for name in ("configuration_llada.py", "modeling_llada.py", "tokenization.py"):
        (folder / name).write_text(POISON)
    names, place = sorted(tensors), {}
    for number in range(files):
        file = f"model-{number + 1:05}-of-{files:05}.safetensors"
        own = names[number::files]
        save_file({name: tensors[name].clone() for name in own}, folder / file)
        place |= dict.fromkeys(own, file)
    total = sum(value.numel() * value.element_size() for value in tensors.values())
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": place}))
    return folder


def change_config(folder: Path, **changes) -> None:
    """Other settings in its config.json."""
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
