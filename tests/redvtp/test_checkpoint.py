"""Loading a folder: official names, transformers' own, and what is wrong with a broken one."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from transformers import LlavaOnevisionForConditionalGeneration

from redvtp import load
from redvtp.models.checkpoint import LLADA_V_NAMES, CheckpointError, host_name
from redvtp.models.llada_v import LladaV, host_config
from redvtp.models.shards import stored_tensors
from tests.redvtp.runs import assert_all_same, run
from tests.tiny import SHAPE

SPECIAL = {"mask": 60, "eos": 61, "bos": 62, "start_header": 63, "end_header": 64}
CONFIG = {**SHAPE, "num_hidden_layers": 1, "num_key_value_heads": 2, "vocab_size": 65, "parity_special_tokens": SPECIAL}


def official_name(name: str) -> str:
    """The official name of a host's tensor: the map, read the other way."""
    for official, ours in sorted(LLADA_V_NAMES, key=lambda pair: -len(pair[1])):
        if name.startswith(ours):
            return official + name[len(ours) :]
    raise AssertionError(name)


@pytest.fixture(scope="module")
def tensors():
    model = LlavaOnevisionForConditionalGeneration(host_config(CONFIG))
    return {official_name(name): value.clone() for name, value in model.state_dict().items()}


def write(folder, tensors, config=CONFIG):
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    save_file(tensors, folder / "model.safetensors")
    return folder


def refused(folder, *words):
    with pytest.raises(CheckpointError) as caught:
        LladaV.from_folder(folder)
    text = str(caught.value)
    assert "\n" not in text.strip()
    for word in words:
        assert word in text


def test_an_official_folder_loads_bit_for_bit(tmp_path, tensors):
    host = LladaV.from_folder(write(tmp_path / "m", tensors), torch.float32)
    loaded = host.model.state_dict()
    assert all(torch.equal(loaded[host_name(name)], value) for name, value in tensors.items())
    assert (host.mask_id, host.banned_ids) == (60, (61, 62, 63, 64))


def test_the_name_map_is_one_to_one(tensors):
    assert len({host_name(name) for name in tensors}) == len(tensors)
    assert all(official_name(host_name(name)) == name for name in tensors)
    assert host_name("something.else") == "something.else"


def test_shards_load_like_one_file(tmp_path, tensors):
    names = sorted(tensors)
    folder = tmp_path / "m"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for shard, own in shards.items():
        save_file({name: tensors[name] for name in own}, folder / shard)
    index = {"weight_map": {name: shard for shard, own in shards.items() for name in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    loaded = LladaV.from_folder(folder, torch.float32).model.state_dict()
    assert all(torch.equal(loaded[host_name(name)], value) for name, value in tensors.items())
    found = stored_tensors(folder)
    assert {name: (one.shape, one.path.name) for name, one in found.items()} == {
        name: (tuple(value.shape), index["weight_map"][name]) for name, value in tensors.items()
    }
    (folder / "b.safetensors").unlink()
    refused(folder, "b.safetensors", "found none")


def test_missing_surplus_and_misshapen_tensors_are_named(tmp_path, tensors):
    head = tensors["lm_head.weight"]
    without = {name: value for name, value in tensors.items() if name != "lm_head.weight"}
    refused(write(tmp_path / "m", without), "1 missing", "lm_head.weight")
    refused(write(tmp_path / "m", {**tensors, "model.extra": head.clone()}), "1 surplus", "extra")
    wrong = {**tensors, "lm_head.weight": head[:, :5].clone()}
    refused(write(tmp_path / "m", wrong), "1 misshapen", "lm_head.weight (65, 5) instead of (65, 32)")
    few = {name: value for name, value in tensors.items() if "layernorm" not in name}
    refused(write(tmp_path / "m", few), "missing tensors", "more")
    few = {name: value for name, value in tensors.items() if "vision" not in name}
    refused(write(tmp_path / "m", few), "no tensor of the vision tower")


def test_truncated_and_missing_files_are_named(tmp_path, tensors):
    folder = write(tmp_path / "m", tensors)
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for size in (len(whole) - 10, 100, 4, 0):
        path.write_bytes(whole[:size])
        refused(folder, "model.safetensors", "truncated or corrupt")
    path.unlink()
    refused(folder, "model.safetensors", "found none")
    (folder / "config.json").write_text("{")
    refused(folder, "config.json", "expected JSON")
    (folder / "config.json").unlink()
    refused(folder, "config.json", "found none")


def test_half_precision_weights_load_in_the_dtype_asked_for(tmp_path, tensors):
    folder = write(tmp_path / "m", {name: value.half() for name, value in tensors.items()})
    assert LladaV.from_folder(folder).model.dtype == torch.float16  # what the official evaluation runs in
    assert LladaV.from_folder(folder, torch.float32).model.dtype == torch.float32
    assert LladaV.from_folder(folder, dtype=torch.bfloat16).model.dtype == torch.bfloat16


def test_a_saved_host_loads_again_and_answers_the_same(tmp_path, model, prompts):
    host = model.host
    host.model.save_pretrained(tmp_path / "m")
    host.tokenizer.save_pretrained(tmp_path / "m")
    (tmp_path / "m" / "redvtp.json").write_text(json.dumps({"host": "llada_v", "system_prompt": host.system_prompt}))
    again = load(tmp_path / "m")
    assert_all_same(run(again, prompts[:2]), run(model, prompts[:2]))


def test_the_vocabulary_is_trimmed_to_the_tokenizer(tmp_path, host):
    size = len(host.tokenizer)
    config = {**SHAPE, "num_hidden_layers": 1, "num_key_value_heads": 2, "vocab_size": size + 7}
    whole = LlavaOnevisionForConditionalGeneration(host_config(config))
    folder = write(tmp_path / "m", {official_name(n): v.clone() for n, v in whole.state_dict().items()}, config)
    host.tokenizer.save_pretrained(folder)
    loaded = LladaV.from_folder(folder, torch.float32)
    assert loaded.model.lm_head.weight.shape[0] == size
    assert torch.equal(loaded.model.lm_head.weight, whole.lm_head.weight[:size])
    assert loaded.config.text_config.vocab_size == size


def test_unknown_models_are_refused(tmp_path, tensors):
    with pytest.raises(CheckpointError, match="'no/such' is not on this machine: `hf download no/such` fetches it"):
        load("no/such")
    with pytest.raises(CheckpointError, match="'mini/such': expected a folder, .* or one of mini/l"):
        load("mini/such")
    folder = write(tmp_path / "m", tensors)
    (folder / "redvtp.json").write_text(json.dumps({"host": "other"}))
    with pytest.raises(CheckpointError, match="unknown host 'other', expected one of llada_v"):
        load(folder)
