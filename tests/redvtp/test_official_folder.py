"""The published layout: loaded as the official loaders do, and each fault named before any weight is read."""

from __future__ import annotations

import json
import logging
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from redvtp import Prompt, RedVTP, load
from redvtp.cli import main
from redvtp.cli.shapes import unloaded
from redvtp.models import checkpoint
from redvtp.models.checkpoint import CheckpointError
from redvtp.models.files import FileError
from redvtp.models.folder import Folder, Opening
from redvtp.models.hub import PUBLISHED
from redvtp.models.placement import placed
from redvtp.models.shards import INDEX
from tests.official import HOSTS, SURPLUS_ROWS, change_config, official_name, official_tensors, write_official
from tests.redvtp import test_llada_v
from tests.tiny import build_tokenizer, picture

NAMES = {"llada_v": "GSAI-ML/LLaDA-V", "lavida": "jacklishufan/lavida-llada-v1.0-instruct"}
TENSORS = {kind: official_tensors(kind) for kind in HOSTS}


@pytest.fixture(params=list(HOSTS))
def kind(request):
    return request.param


@pytest.fixture
def folder(tmp_path, kind):
    return write_official(tmp_path / "m", kind, TENSORS[kind])


def doctor(capsys, *words) -> tuple[int, str]:
    code = main(["doctor", *map(str, words)])
    return code, capsys.readouterr().out


def test_every_tensor_lands_where_it_belongs_and_the_vocabulary_is_trimmed(folder, kind, caplog):
    with caplog.at_level(logging.WARNING, "redvtp"):
        host = load(folder, torch.float32).host
    assert isinstance(host, HOSTS[kind])
    assert caplog.records == []  # nothing is other than inferred
    size = len(build_tokenizer())
    rows = size if kind == "llada_v" else size + SURPLUS_ROWS
    for name, value in host.model.state_dict().items():
        theirs = TENSORS[kind][official_name(kind, name)].float()
        vocabulary = name.endswith(("embed_tokens.weight", "lm_head.weight"))
        assert torch.equal(value, theirs[:rows] if vocabulary else theirs), name
    assert host.config.text_config.vocab_size == rows
    assert not any(value.is_meta for value in (*host.model.parameters(), *host.model.buffers()))


def test_it_answers_like_the_same_weights_in_one_file(folder, kind, tmp_path):
    one = write_official(tmp_path / "one", kind, TENSORS[kind], files=1)
    prompts = [Prompt("What is it?", [picture(90, 40, 1)]), Prompt("And?")]
    answers = [
        load(path, torch.float32).generate_batch(prompts, prune=RedVTP(keep=0.5), length=6, steps=3)
        for path in (folder, one)
    ]
    assert [(a.ids, a.kept.tolist()) for a in answers[0]] == [(a.ids, a.kept.tolist()) for a in answers[1]]


def test_weights_are_in_what_the_official_evaluation_runs_in_unless_told_otherwise(folder, kind):
    host = load(folder, device_map={"": "cpu"}).host
    assert host.model.dtype == (torch.float16 if kind == "llada_v" else torch.bfloat16)
    assert host.decoder.rotary_emb.inv_freq.dtype == torch.float32
    assert {value.dtype for value in host.model.parameters()} == {host.model.dtype}


def test_a_name_of_the_hub_is_looked_up_where_it_was_fetched_to(tmp_path, kind, monkeypatch, capsys):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    name = NAMES[kind]
    with pytest.raises(FileError, match=rf"'{name}' is not on this machine: `hf download {name}` \(16.9 GB\)"):
        load(name)
    code, text = doctor(capsys, name)
    assert code == 1 and f"`hf download {name}` (16.9 GB) fetches it" in text
    assert [line.split()[1] for line in text.splitlines()[:-1]] == ["model", "disk", "memory", "gpu"]
    home = tmp_path / "hub" / f"models--{name.replace('/', '--')}"
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text("c0ffee")
    snapshot = write_official(home / "snapshots" / "c0ffee", kind, TENSORS[kind])
    assert isinstance(load(name).host, HOSTS[kind])
    (snapshot / "model-00002-of-00003.safetensors").unlink()
    with pytest.raises(FileError, match=rf"none \(1 of 3 files missing\); `hf download {name}` .* what is missing"):
        load(name)
    assert f"`hf download {name}`" in doctor(capsys, name)[1]


def test_a_shipped_name_is_never_taken_for_one_of_the_hub(tmp_path, monkeypatch):
    monkeypatch.setattr("redvtp.model.DATA", tmp_path)
    write_official(tmp_path / "mini" / "broken", "llada_v", TENSORS["llada_v"])
    without(tmp_path / "mini" / "broken", "llada_v")
    with pytest.raises(FileError) as caught:
        load("mini/broken")
    assert "hf download" not in str(caught.value)


# ---- what the files say, and what is wrong with them -------------------------------------------------------


def without(folder: Path, kind: str) -> str:
    (folder / "model-00002-of-00003.safetensors").unlink()
    return "model-00002-of-00003.safetensors: expected a safetensors file, found none (1 of 3 files missing)"


def misnamed(folder: Path, kind: str) -> str:
    path = folder / "model-00001-of-00003.safetensors"
    tensors = load_file(path)
    tensors["model.image_newlime"] = tensors.pop(next(iter(sorted(tensors))))
    save_file(tensors, path)
    names = json.loads((folder / INDEX).read_text())
    names["weight_map"] = {
        name: file for name, file in names["weight_map"].items() if file != path.name or name in tensors
    } | {"model.image_newlime": path.name}
    (folder / INDEX).write_text(json.dumps(names))
    return "1 missing tensors: "


def misshapen(folder: Path, kind: str) -> str:
    for path in sorted(folder.glob("*.safetensors")):
        tensors = load_file(path)
        if "model.image_newline" in tensors:
            tensors["model.image_newline"] = torch.zeros(5)
            save_file(tensors, path)
    return "1 misshapen tensors: model.image_newline (5,) instead of (32,)"


def truncated(folder: Path, kind: str) -> str:
    path = folder / "model-00003-of-00003.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    return "model-00003-of-00003.safetensors: the safetensors file is truncated or corrupt"


def astray(folder: Path, kind: str) -> str:
    path = folder / INDEX
    index = json.loads(path.read_text())
    index["weight_map"]["no.such"] = "model-00001-of-00003.safetensors"
    path.write_text(json.dumps(index))
    return "it names no.such, which model-00001-of-00003.safetensors has not"


def other_tiles(folder: Path, kind: str) -> str:
    change_config(folder, image_aspect_ratio="highres")
    return "image_aspect_ratio='highres': expected anyres, anyres_max_N, pad or square"


def other_canvases(folder: Path, kind: str) -> str:
    change_config(folder, image_grid_pinpoints=[[100, 200]])
    return "image_grid_pinpoints=[[100, 200]]: expected canvases [width, height] in pixels, multiples of"


def other_merge(folder: Path, kind: str) -> str:
    change_config(folder, mm_patch_merge_type="flat")
    return "mm_patch_merge_type='flat', but"


def no_tokenizer(folder: Path, kind: str) -> str:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    return "expected tokenizer.json and tokenizer_config.json, found neither"


FAULTS = (without, misnamed, misshapen, truncated, astray, other_tiles, other_canvases, other_merge, no_tokenizer)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_a_fault_is_named_in_one_line_before_any_weight_is_read(folder, kind, fault, monkeypatch, capsys):
    def heavy(*_):
        raise AssertionError("weights were read")

    monkeypatch.setattr(checkpoint, "fill", heavy)
    message = fault(folder, kind)
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    code, text = doctor(capsys, folder)
    failed = [line for line in text.splitlines() if line.startswith("FAIL")]
    assert code == 1
    assert len(failed) == 1 and message in failed[0]
    assert text.splitlines()[-1] == "1 check failed"


def test_files_win_where_they_say_otherwise_and_one_line_says_so(folder, kind, caplog, capsys):
    side = json.loads((folder / "config.json").read_text())["vision_config"]["image_size"]
    change_config(folder, image_grid_pinpoints="(1x1),...,(2x2)", mm_newline_position="frame")
    with caplog.at_level(logging.WARNING, "redvtp"):
        host = load(folder).host
    canvases = [[side * high, side * wide] for wide in (1, 2) for high in (1, 2)]
    assert host.config.image_grid_pinpoints == canvases
    assert len(caplog.records) == 1
    said = caplog.records[0].getMessage()
    assert "image_grid_pinpoints are other canvases than inferred" in said
    assert "mm_newline_position is 'frame', not 'grid' as inferred; followed" in said
    assert "\n" not in said
    code, text = doctor(capsys, folder, "--no-forward")
    assert code == 0 and "note: image_grid_pinpoints are other canvases" in text


class Large:
    """A tokenizer of LLaDA's size, a token a word, in which a newline joins the word behind it or not."""

    def __init__(self, joins: bool) -> None:
        self.pattern = re.compile(r"\n?\w+|\S" if joins else r"\n|\w+|[^\w\s]")
        self.texts: list[str] = []

    def __len__(self) -> int:
        return 126349

    def __call__(self, text: str, **_):
        found = self.pattern.findall(text)
        self.texts += found
        return SimpleNamespace(input_ids=[self.texts.index(one) for one in found])

    def decode(self, ids) -> str:
        return "".join(self.texts[one] for one in ids)

    def convert_tokens_to_ids(self, token: str) -> int:
        return 126336

    unk_token_id = None


@pytest.mark.parametrize("joins", [False, True])
def test_the_tokenizer_says_where_the_image_begins(tmp_path, joins, monkeypatch):
    folder = write_official(tmp_path / "m", "llada_v", TENSORS["llada_v"])
    (folder / "redvtp.json").write_text(json.dumps({"host": "llada_v", "trim_vocabulary": False}))
    monkeypatch.setattr("redvtp.models.folder.read_tokenizer", lambda _: Large(joins))
    notes = Folder.read(folder, HOSTS["llada_v"]).notes
    index, dropped = Opening.of(Large(joins), {}).index, "\nWhat"
    assert notes[0] == f"the image begins at token {index}, not 47 as inferred"
    drops = f"the official rule drops {dropped!r} behind the image, not a newline as inferred"
    assert notes[1:] == [drops] * joins


@pytest.mark.parametrize(("setting", "aspect"), [("pad", "pad"), ("square", "square"), (None, "square")])
def test_images_need_not_be_tiled(folder, kind, setting, aspect):
    change_config(folder, image_aspect_ratio=setting)
    host = load(folder, torch.float32).host
    assert host.aspect == aspect
    vision = host.config.vision_config
    state = host.begin([Prompt("?", [picture(90, 40)])], 2)
    assert state.original.tolist() == [(vision.image_size // vision.patch_size) ** 2]
    box = state.layout.box[0]
    area = ((box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])).nansum()
    assert float(area) == pytest.approx(90 * 40)


@pytest.mark.parametrize("setting", [None, "pad", "anyres"])
def test_counts_without_weights_are_those_of_the_loaded_model(folder, kind, setting):
    change_config(folder, image_aspect_ratio=setting)
    host, config = load(folder).host, unloaded(str(folder))
    assert (config.name, config.layers) == (host.name, host.layers)
    for size in ((90, 40), (40, 130), (300, 300)):
        state = host.begin([Prompt("?", [picture(*size)])], 2)
        assert config.layout(*size).length == int(state.original)


def test_a_tied_head_is_the_embedding(tmp_path):
    tensors = {name: value for name, value in TENSORS["llada_v"].items() if name != "lm_head.weight"}
    folder = write_official(tmp_path / "m", "llada_v", tensors)
    change_config(folder, tie_word_embeddings=True)
    model = load(folder).host.model
    assert torch.equal(model.lm_head.weight, model.model.language_model.embed_tokens.weight)


def test_without_a_maximum_no_map_is_shrunk(tmp_path):
    folder = write_official(tmp_path / "m", "llada_v", TENSORS["llada_v"])
    counts = []
    for setting in ("anyres_max_4", "anyres"):
        change_config(folder, image_aspect_ratio=setting)
        counts.append(int(load(folder).host.begin([Prompt("?", [picture(128, 128)])], 2).original))
    assert counts == [4 + 4 * 5, 4 + 8 * 9]


# ---- true size ---------------------------------------------------------------------------------------------


def sparse(path: Path, tensors: dict[str, tuple[int, ...]]) -> None:
    """A safetensors file of that size whose data are a hole: its header is real and it takes no room."""
    header, end = {}, 0
    for name, shape in tensors.items():
        start, end = end, end + 2 * torch.Size(shape).numel()
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)


def test_the_true_names_and_shapes_fit_by_their_headers(tmp_path):
    names = test_llada_v.official_tensors()
    config = {**HOSTS["llada_v"].true_shape, "parity_special_tokens": {
        "mask": 126336, "eos": 126081, "bos": 126080, "start_header": 126346, "end_header": 126347}}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    order, place = sorted(names), {}
    for number in range(6):
        file = f"model-{number + 1:05}-of-00006.safetensors"
        sparse(tmp_path / file, {name: names[name] for name in order[number::6]})
        place |= dict.fromkeys(order[number::6], file)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": place}))
    found = Folder.read(tmp_path, HOSTS["llada_v"])
    assert 2 * found.numbers == PUBLISHED["GSAI-ML/LLaDA-V"].bytes
    assert found.dtype == torch.float16
    numbers = [sum(v.numel() for v in HOSTS[kind].on_meta().state_dict().values()) for kind in ("lavida",)]
    assert 2 * numbers[0] == PUBLISHED["jacklishufan/lavida-llada-v1.0-instruct"].bytes


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read as Linux tells it")
def test_weights_are_in_memory_once(tmp_path):
    folder = write_official(tmp_path / "m", "llada_v", TENSORS["llada_v"])
    embedding = torch.zeros(600_000, 32, dtype=torch.bfloat16)  # 38 MB, twice
    tensors = {**TENSORS["llada_v"], "model.embed_tokens.weight": embedding, "lm_head.weight": embedding.clone()}
    shutil.rmtree(folder)
    write_official(folder, "llada_v", tensors, files=2)
    change_config(folder, vocab_size=len(embedding))
    (folder / "redvtp.json").write_text(json.dumps({"host": "llada_v", "trim_vocabulary": False}))
    script = (
        "import re, sys, torch\nfrom redvtp import load\n"
        "peak = lambda: 1024 * int(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\n"
        "load('mini/llada_v')\nbefore = peak()\n"
        "model = load(sys.argv[1], torch.float32)\nprint(peak() - before)"
    )
    done = subprocess.run([sys.executable, "-c", script, folder], capture_output=True, text=True, check=True)
    weights = 2 * embedding.numel() * 4
    # The weights in fp32, the pages of one file in bf16, and little else.
    assert weights * 0.9 < int(done.stdout) < weights * 1.6


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"device": "cuda:99"}, "'cuda:99': torch finds"),
        ({"device": "gpu"}, "device 'gpu': expected a name such as cpu, cuda or cuda:1, or 'auto'"),
        ({"device_map": {"a": "cpu", "b": "cuda:0"}}, "device_map on cpu, cuda:0: expected one device"),
        ({"device": "cuda", "device_map": "auto"}, "expected one of them"),
        ({"device_map": 77}, "'cuda:77': torch finds"),
    ],
)
def test_devices_that_are_not_there_are_refused(words, message):
    with pytest.raises(ValueError, match=message):
        placed(**words)


def test_doctor_finds_the_shipped_models_fine(capsys):
    for name in ("mini/llada_v", "mini/llada_v_seed1"):
        code, text = doctor(capsys, name, "--device", "cpu")
        assert code == 0, text
        assert text.splitlines()[-1] == "everything is fine"
        assert "visual tokens kept" in text
    code, text = doctor(capsys, "mini/llada_v", "--json", "--no-forward")
    found = {row["name"]: row for row in map(json.loads, text.splitlines())}
    assert code == 0 and found["forward"]["ok"] is None
    assert set(found) == {"model", "config", "files", "tokenizer", "tensors", "prompt", "memory", "gpu", "forward"}


def test_doctor_takes_one_step_on_an_official_folder(folder, capsys):
    code, text = doctor(capsys, folder, "--device", "cpu")
    assert code == 0, text
    assert "all whole" in text and "visual tokens kept" in text and "behind it comes '\\n'" in text
