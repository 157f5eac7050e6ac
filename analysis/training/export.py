"""From a run's best weights to a folder that `redvtp.load` and `from_pretrained` load, with its model card."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from analysis import provenance
from analysis.benchmarks import blank, data_hash, get
from analysis.training import card, checkpoint, designs
from analysis.training.designs import DEFAULT
from analysis.training.evaluate import score
from analysis.training.loop import fresh
from analysis.training.mini_model import build_image_processor


def load_best(folder: Path, seed: int, causal: bool = False, host: str = DEFAULT):
    """(model in fp32 with the run's best weights rounded to fp16, tokenizer, the best record).

    Raises FileNotFoundError when the run has no scored weights yet.
    """
    path = folder / checkpoint.BEST
    if not path.exists():
        raise FileNotFoundError(f"{path.name} is not in the run's folder: no dev score has been taken yet")
    best = torch.load(path, map_location="cpu", weights_only=True)
    trainee, tokenizer, _ = fresh(seed, "cpu", causal, host)
    model = trainee.model
    model.load_state_dict(best["model"])
    return model.half().float().eval(), tokenizer, best


def export(folder: Path, out: Path, families: tuple[str, ...], seed: int, test_n: int, causal: bool = False,
           command: str = "python -m analysis.train_mini", host: str = DEFAULT, adapted: bool = False) -> dict:
    """Write model, tokenizer, image processor, `redvtp.json` and the card; returns the test scores by family.

    adapted: the run went on from an autoregressive model, which the card says.

    A family's scores are those of evaluate.score, and "blank", exact match without an image; where the host's design
    has a cache, they are taken with it, and "uncached" holds those without.
    """
    model, tokenizer, best = load_best(folder, seed, causal, host)
    write_folder(model, tokenizer, out, host)
    design, scores, hashes = designs.get(host), {}, {}
    for name in families:
        samples = get(name).samples("test", test_n, seed=0)
        scores[name] = found = score(model, tokenizer, samples, design)
        if design.cache:
            found["uncached"] = score(model, tokenizer, samples, design, cached=False)
        found["blank"] = score(model, tokenizer, [blank(sample) for sample in samples], design)["exact"]
        hashes[name] = data_hash(samples)
        print(name, found, flush=True)
    lines = map(json.loads, (folder / "curve.jsonl").read_text().splitlines())
    curve = [line for line in lines if f"dev_{families[0]}" in line and line["step"] <= best["step"]]
    notes = folder / "notes.md"
    cores = best["threads"]
    text = card.card(
        card.CAUSAL if causal else card.ADAPTED if adapted else card.KINDS[host], scores, hashes, curve,
        sum(weight.numel() for weight in model.parameters()), notes=notes.read_text() if notes.exists() else "",
        command=command, steps=best["step"], minutes=best["seconds"] / 60,
        machine=f"{cores} threads of an {provenance.device_model()}", dev_n=best["dev_n"], seed=seed)
    (out / "README.md").write_text(text)
    return scores


def write_folder(model, tokenizer, out: Path, host: str = DEFAULT) -> None:
    """The folder itself: fp16 safetensors, tokenizer, image processor and what redvtp needs to know.

    An autoregressive model has no `redvtp.json`: it is no host of the diffusion loop.
    """
    out.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(out)
    model.float()
    tokenizer.save_pretrained(out)
    build_image_processor(host).save_pretrained(out)
    if not model.config.text_config.is_causal:
        note = {"host": host, "system_prompt": None, "aspect": "anyres"}
        (out / "redvtp.json").write_text(json.dumps(note) + "\n")
