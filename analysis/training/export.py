"""From a run's best weights to a folder that `from_pretrained` loads, with its model card."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from analysis.benchmarks import blank, data_hash, get
from analysis.training import checkpoint
from analysis.training.evaluate import score
from analysis.training.loop import fresh
from analysis.training.mini_model import build_image_processor

CARD = """# Mini LLaDA-V

A masked-diffusion vision-language model of {parameters:.2f} M parameters, trained from nothing, that answers
`What is KEY?` about small rendered pages. It exists so that pruning can be measured on a laptop with the code
path of the 8B models: a SigLIP tower (3 layers), anyres crops of 64 px with patch 8, a GELU projector, newline
embeddings, and a bidirectional Llama (6 layers x 128, RoPE) that fills 32 masked tokens in 16 steps.

## Scores
Exact match on the test split, fp16 weights run in fp32, plain full attention, nothing pruned, greedy, 32 tokens
in 16 steps. Test pages come from other seeds than training pages, and no test value occurs in a training page.

| family | n | exact match | 95% interval | characters in place | blank image, exact match |
|---|---|---|---|---|---|
{rows}

Data hash (sha256 over these test samples): {hashes}.
A blank image must fall to chance, and chance is zero here.

## Training
- Command: `python -m analysis.train_mini {families} --seed {seed} --out data/mini/llada_v`
- {steps} steps in {minutes:.0f} minutes on 2 CPU cores (bf16 autocast, torch.compile), evaluation included.
{notes}- Every choice was made on the development split; the test split was scored for this card only.
- Curve, exact match on development samples:

| step | minutes | {names} |
|---|---|{dashes}
{curve}

## What it is not
It has read nothing but these pages: thirty keys, 24 characters, two DejaVu faces. It knows no language, follows no
other instruction and its accuracy says nothing about the 8B models. Auxiliary losses in training named glyphs,
places and fields at visual tokens; no attention map was ever a target. One training seed.
"""


def load_best(folder: Path, seed: int):
    """(model in fp32 with the run's best weights rounded to fp16, tokenizer, the best record).

    Raises FileNotFoundError when the run has no scored weights yet.
    """
    path = folder / checkpoint.BEST
    if not path.exists():
        raise FileNotFoundError(f"{path.name} is not in the run's folder: no dev score has been taken yet")
    best = torch.load(path, map_location="cpu", weights_only=True)
    trainee, tokenizer, _ = fresh(seed, "cpu")
    model = trainee.model
    model.load_state_dict(best["model"])
    return model.half().float().eval(), tokenizer, best


def export(folder: Path, out: Path, families: tuple[str, ...], seed: int, test_n: int) -> dict:
    """Write model, tokenizer, image processor, `redvtp.json` and the card; returns the test scores by family."""
    model, tokenizer, best = load_best(folder, seed)
    scores, hashes, rows = {}, [], []
    for name in families:
        samples = get(name).samples("test", test_n, seed=0)
        scores[name] = found = score(model, tokenizer, samples)
        empty = score(model, tokenizer, [blank(sample) for sample in samples])
        scores[name]["blank"] = empty["exact"]
        hashes.append(f"{name} `{data_hash(samples)}`")
        rows.append(f"| {name} | {found['n']} | {found['exact']:.1%} | {found['low']:.1%} to {found['high']:.1%} | "
                    f"{found['characters']:.1%} | {empty['exact']:.1%} |")
        print(name, {key: round(value, 4) for key, value in found.items()}, flush=True)
    write_folder(model, tokenizer, out)
    curve = [line for line in map(json.loads, (folder / "curve.jsonl").read_text().splitlines())
             if f"dev_{families[0]}" in line and line["step"] <= best["step"]]
    notes = folder / "notes.md"
    card = CARD.format(
        parameters=sum(weight.numel() for weight in model.parameters()) / 1e6, rows="\n".join(rows),
        hashes=", ".join(hashes), notes=notes.read_text() if notes.exists() else "",
        families=" ".join(f"--family {name}" for name in families), seed=seed, steps=best["step"],
        minutes=best["seconds"] / 60, names=" | ".join(families), dashes="---|" * len(families),
        curve="\n".join(f"| {line['step']} | {line['seconds'] / 60:.0f} | "
                        + " | ".join(f"{line['dev_' + name]:.1%}" for name in families) + " |" for line in curve))
    (out / "README.md").write_text(card)
    return scores


def write_folder(model, tokenizer, out: Path) -> None:
    """The folder itself: fp16 safetensors, tokenizer, image processor and what redvtp needs to know."""
    out.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(out)
    model.float()
    tokenizer.save_pretrained(out)
    build_image_processor().save_pretrained(out)
    (out / "redvtp.json").write_text(json.dumps({"host": "llada_v", "system_prompt": None, "aspect": "anyres"}) + "\n")
