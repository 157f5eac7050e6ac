"""Training of a mini model that starts from another: LaViDa's visual tokens, its cached prompt, the teacher."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from analysis import train_mini
from analysis.benchmarks import FAMILIES, get
from analysis.training import designs, evaluate, export, loop, losses, mini_model, stages, teacher
from analysis.training.batches import Texts, crops, normalise, training_batch
from analysis.training.tokenizer import build_tokenizer
from redvtp.models.lavida import Lavida
from redvtp.models.lavida_layout import PINPOINTS

LAVIDA = designs.get("lavida")
TEACHER = "mini/llada_v"
TINY = tuple(dataclasses.replace(stage, steps=2, pages=2, full_pages=2, questions=2)
             for stage in stages.TAUGHT_STAGES)
SIZES = sorted({size for family in FAMILIES.values() for size in family.sizes})


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer()


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    return mini_model.build_model(tokenizer, host="lavida").eval()


@pytest.fixture(scope="module")
def master(tokenizer):
    return teacher.load_teacher(TEACHER, tokenizer)


def options(folder, **changes):
    given = {"families": ("scene", "choice"), "seed": 3, "stages": TINY, "folder": folder, "compile": False, "dev_n": 1,
             "host": "lavida", "teacher": TEACHER}
    return loop.Options(**{**given, **changes})


def page(size, index=1):
    family = next(family for family in FAMILIES.values() if size in family.sizes)
    return family.page("train", 0, index, size)


def test_canvases_are_lavidas_five_and_a_single_crop():
    assert LAVIDA.canvases[0] == (96, 96)
    assert LAVIDA.canvases[1:] == tuple((high // 4, wide // 4) for high, wide in PINPOINTS)


@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_training_sees_the_visual_tokens_that_the_host_makes(model, tokenizer, size):
    """Same pixels, pooling, unpadding and newlines; a token covers a cell of the labels, as in the mini LLaDA-V."""
    pixels, labels = page(size).pixels, page(size).labels
    image = Image.fromarray(pixels)
    given = mini_model.build_image_processor("lavida")([image], return_tensors="pt")["pixel_values"]
    mine = normalise(crops(pixels))[None]
    torch.testing.assert_close(mine, given, rtol=0, atol=2e-7)
    host = Lavida(mini_model.build_model(tokenizer, host="lavida"), tokenizer, system_prompt=None)
    host.model.load_state_dict(model.state_dict())
    (packed, layout), = host._encode_tiled([image])
    visual, tower = mini_model.visual_tokens(model, mine, size)
    assert tower.shape[1:3] == labels.shape[1:]
    assert layout.length == packed.shape[0] == 144 + size[1] // 8 * (size[0] // 8 + 1)
    torch.testing.assert_close(visual[0], packed, rtol=0, atol=2e-5)
    boxes = layout.box[0, 144:].view(size[1] // 8, -1, 4)[:, :-1]
    rows, columns = np.indices(boxes.shape[:2])
    cells = np.stack((columns, rows, columns + 1, rows + 1), -1) * 8
    torch.testing.assert_close(boxes.float(), torch.from_numpy(cells).float(), rtol=0, atol=1e-4)


SHARED, PROMPT, RESPONSE = 6, 4, 3


@torch.no_grad()
@pytest.mark.parametrize("packed", [True, False])
def test_a_prefix_hides_the_response_from_the_prompt(model, packed):
    """Other responses leave every prompt row as it was; without the prefix they do not."""
    questions = 2 if packed else 1
    length = PROMPT + RESPONSE
    torch.manual_seed(0)
    hidden = torch.randn(1, SHARED + questions * length, 128)
    place = torch.arange(hidden.shape[1])
    response = (place >= SHARED) & ((place - SHARED) % length >= PROMPT)
    other = torch.where(response[:, None], hidden.flip(0).roll(1, 1), hidden)
    model.set_attn_implementation({"text_config": mini_model.PACKED})
    bias = torch.zeros(1, questions, length)
    for prefix in (PROMPT, 0):
        one, two = (losses.run_layers(model.model.language_model, each, place[None], 0, 6, shared=SHARED,
                                      questions=questions, bias=bias, packed=packed, prefix=prefix)[0]
                    for each in (hidden, other))
        assert torch.allclose(one[~response], two[~response], atol=1e-5) == bool(prefix)
        assert not torch.allclose(one[response], two[response], atol=1e-2)


@torch.no_grad()
def test_a_prefix_step_equals_the_cached_prompt(model, tokenizer, monkeypatch):
    """The logits of a fully masked response are those that the host gives in its first step with the cache."""
    sample = get("scene").sample("dev", 0, 0)
    host = evaluate.hosted(model, tokenizer, LAVIDA)
    run = evaluate.answers.start(host, [sample], cache=LAVIDA.cache, recorder=evaluate.redvtp.Recorder(logits=True))
    run.step()
    trainee = losses.Trainee(model, tokenizer).eval()
    model.set_attn_implementation({"text_config": mini_model.PACKED})
    texts = Texts(tokenizer)
    asked = torch.tensor(texts.asked([sample.question]))[None]
    drawn = normalise(crops(np.asarray(sample.image)))[None]
    batch = losses.Batch(drawn, torch.from_numpy(page(sample.image.size).labels).long()[None], texts.head, asked,
                         torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1, 2, dtype=torch.long),
                         torch.full((1, 1), -100), torch.full((1, 1), -100), sample.image.size)
    seen = []
    monkeypatch.setattr(losses, "draw_masks", lambda answers, generator: (torch.ones_like(answers).bool(),
                                                                          torch.ones(1, 1)))
    hook = model.lm_head.register_forward_hook(lambda module, inputs, output: seen.append(output))
    losses.step_loss(trainee, batch, losses.Weights(), False, torch.Generator(), prefix=True)
    hook.remove()
    torch.testing.assert_close(seen[-1].flatten(0, 2), run.recorder.steps[0].logits, rtol=1e-3, atol=1e-3)


@torch.no_grad()
def test_behind_the_cells_the_learner_is_its_teacher(master):
    """A first layer that gave the teacher's embeddings of the cells would make the teacher's visual tokens."""
    trainee, _, _ = loop.fresh(0, "cpu", host="lavida")
    teacher.inherit(trainee.model, master)
    pixels = normalise(crops(page((192, 80)).pixels))[None]
    cells = teacher.of_patches(master.model.vision_tower.embeddings(pixels[0]))
    trainee.model.model.vision_tower.encoder.layers[0] = Given(cells)
    mine, theirs = (mini_model.visual_tokens(each, pixels, (192, 80))[0] for each in (trainee.model, master))
    torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-3)
    for name, weight in trainee.model.model.language_model.state_dict().items():
        assert torch.equal(weight, master.model.language_model.state_dict()[name]), name


class Given(torch.nn.Module):
    """A layer that gives what it was told."""

    def __init__(self, output):
        super().__init__()
        self.output = output

    def forward(self, hidden, mask):
        return self.output


@torch.no_grad()
def test_each_head_looks_at_its_corner_of_the_cell(master):
    trainee, _, _ = loop.fresh(0, "cpu", host="lavida")
    teacher.inherit(trainee.model, master)
    tower = trainee.model.model.vision_tower
    layer, pixels = tower.encoder.layers[0], normalise(crops(page((96, 80)).pixels))[:1]
    hidden = layer.layer_norm1(tower.embeddings(pixels))[0]
    query, key = (each(hidden).unflatten(1, (4, 32)).transpose(0, 1)
                  for each in (layer.self_attn.q_proj, layer.self_attn.k_proj))
    weights = (query @ key.transpose(1, 2) / 32 ** 0.5).softmax(-1)
    for head, place in np.ndindex(4, 24 * 24):
        row, column = place // 24 // 2 * 2 + head // 2, place % 24 // 2 * 2 + head % 2
        assert weights[head, place].argmax() == row * 24 + column


def test_distilling_teaches_the_first_layer_only(tmp_path):
    distil = dataclasses.replace(TINY[0], steps=30, warmup=1, rate=(1.0, 1.0))
    run = loop.Run(options(tmp_path, stages=(distil, *TINY[1:])))
    before = {name: weight.clone() for name, weight in run.trainee.state_dict().items()}
    far = [float(run._step(distil)["distance"]) for _ in range(30)]
    assert far[-1] < 0.7 * far[0]
    for name, weight in run.trainee.state_dict().items():
        taught = "vision_tower.embeddings" in name or "vision_tower.encoder.layers.0." in name
        assert taught or torch.equal(weight, before[name]), name


def test_a_resumed_run_ends_in_the_same_state(tmp_path):
    assert loop.Run(options(tmp_path / "whole")).train()
    part = options(tmp_path / "parts", minutes=0.0)
    while not loop.Run(part).train():
        pass
    whole, parts = (torch.load(tmp_path / name / loop.checkpoint.FILE, weights_only=True)
                    for name in ("whole", "parts"))
    assert whole["progress"]["step"] == parts["progress"]["step"] == 6
    for name, weight in whole["trainee"].items():
        assert torch.equal(weight, parts["trainee"][name]), name
    with pytest.raises(ValueError, match="teacher is mini/llada_v_seed1.*has mini/llada_v"):
        loop.Run(options(tmp_path / "whole", teacher="mini/llada_v_seed1"))
    with pytest.raises(ValueError, match="host is llada_v.*has lavida"):
        loop.Run(options(tmp_path / "whole", host="llada_v", teacher=None))


def test_export_loads_with_redvtp(tmp_path):
    """The folder names its host, the card holds the scores with and without the cache."""
    import redvtp

    folder, out = tmp_path / "run", tmp_path / "model"
    assert loop.Run(options(folder, stages=TINY[2:])).train()
    found = export.export(folder, out, ("scene", "choice"), seed=3, test_n=2, host="lavida")
    assert json.loads((out / "redvtp.json").read_text())["host"] == "lavida"
    loaded = redvtp.load(out)
    assert isinstance(loaded.host, Lavida)
    assert loaded.host.config.image_grid_pinpoints == [list(canvas) for canvas in LAVIDA.canvases]
    assert (out / "model.safetensors").stat().st_size < 6 * 2 ** 20
    assert all("uncached" in each for each in found.values())
    card = (out / "README.md").read_text()
    assert "Mini LaViDa" in card and "without cache" in card and "{" not in card


def test_two_of_three_steps_hide_the_response():
    stage = TINY[1]
    assert [stage.is_prefix(step) for step in range(6)] == [True, True, False] * 2
    assert not any(each.is_prefix(step) for each in stages.STAGES for step in range(6))


def test_loss_does_not_depend_on_the_fill_behind_a_prefix(tokenizer):
    trainee, _, _ = loop.fresh(0, "cpu", host="lavida")
    batch = training_batch(Texts(tokenizer), ("perception",), 0, 0, 2, 3, 16)
    assert batch.pads.any()
    more = dataclasses.replace(batch, asked=torch.cat((batch.asked[..., :1],) * 2 + (batch.asked,), -1),
                               pads=batch.pads + 2)
    with torch.no_grad():
        for packed in (True, False):
            one, two = (losses.step_loss(trainee, each, losses.Weights(), packed, torch.Generator().manual_seed(0),
                                         prefix=True).total for each in (batch, more))
            torch.testing.assert_close(one, two)


@pytest.mark.parametrize("given,expected", [
    (["--host", "nope"], "unknown host 'nope', expected one of llada_v, lavida"),
    (["--host", "lavida"], "--host lavida is given without --teacher"),
    (["--host", "lavida", "--teacher", TEACHER, "--causal"], "--causal is given with --host lavida"),
    (["--teacher", TEACHER], "--teacher is given with --host llada_v"),
    (["--host", "lavida", "--teacher", "mini/nobody", "--name", "never-trained"], "model 'mini/nobody'"),
])
def test_bad_hosts_and_teachers_give_one_line(capsys, given, expected):
    assert train_mini.main(given) == 2
    line = capsys.readouterr().err.strip()
    assert "\n" not in line and expected in line


def test_a_teacher_of_another_kind_is_refused(tmp_path, tokenizer):
    model = mini_model.build_model(tokenizer, host="lavida")
    export.write_folder(model, tokenizer, tmp_path, "lavida")
    with pytest.raises(ValueError, match="patches of 4 px, expected 8"):
        teacher.load_teacher(str(tmp_path), tokenizer)
    small = mini_model.build_model(tokenizer, layers=2)
    with pytest.raises(ValueError, match="another network"):
        teacher.inherit(model, small)
