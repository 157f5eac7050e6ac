"""From a run's best weights to a folder that `from_pretrained` loads, with its model card."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from analysis import provenance
from analysis.benchmarks import FAMILIES, blank, data_hash, get
from analysis.training import checkpoint
from analysis.training.evaluate import score
from analysis.training.loop import fresh
from analysis.training.mini_model import build_image_processor

CARD = """# {title}

{what}
It exists so that pruning can be measured on a laptop with the code path of the 8B models: a SigLIP tower (4 layers),
anyres crops of 96 px with patch 8, a GELU projector, newline embeddings, and
{decoder}. {parameters:.2f} M parameters.

## Scores
Exact match on the test split, fp16 weights run in fp32, nothing pruned, {decoding}.
Test pages come from other seeds than training pages; no test value (doc, info, chart) and no test scene (the others)
occurs in training.

| family | mirrors | n | exact match | 95% interval | blank image |
|---|---|---|---|---|---|
{rows}

By kind of question:
{kinds}

With a blank image the score must not be above chance, which for the families with few answers is not zero.

Data hash (sha256 over these test samples):

{hashes}

## Training
- Command: `{command}`
- {steps} steps in {minutes:.0f} minutes on {machine} (bf16 autocast, torch.compile), dev scores included.
{notes}- Every choice was made on the development split; the test split was scored for this card only.
- Curve, exact match on {dev_n} development samples a family:

| step | minutes | {names} |
|---|---|{dashes}
{curve}

## What it is not
It has read nothing but these pages: thirty keys, six colours, seven shapes, 24 letters and digits, DejaVu faces. It
knows no language, follows no other instruction, and its accuracy says nothing about the 8B models. Auxiliary losses in
training named glyphs, places, fields, objects, neighbours and numbers at visual tokens, what is asked for and what the
image gives at response tokens, and letter and meaning at options; in part of stage `all`, questions answered in two
tokens did not see the image in the last two layers. No attention map was ever a target, but both shape where attention
gathers. Training seed {seed}.
"""
DIFFUSION = {
    "title": "Mini LLaDA-V",
    "what": "A masked-diffusion vision-language model, trained from nothing, that answers questions about small\n"
            "rendered pages.",
    "decoder": "a bidirectional Llama (6 layers x 128, RoPE) that fills masked response tokens",
    "decoding": "plain full attention, greedy, under each\nfamily's protocol",
}
CAUSAL = {
    "title": "Mini LLaVA, the autoregressive control",
    "what": "An autoregressive vision-language model, the same network as the mini LLaDA-V with causal attention,\n"
            "trained on the same data, that answers questions about small rendered pages.",
    "decoder": "a causal Llama (6 layers x 128, RoPE), run by transformers alone",
    "decoding": "greedy `generate`",
}


def load_best(folder: Path, seed: int, causal: bool = False):
    """(model in fp32 with the run's best weights rounded to fp16, tokenizer, the best record).

    Raises FileNotFoundError when the run has no scored weights yet.
    """
    path = folder / checkpoint.BEST
    if not path.exists():
        raise FileNotFoundError(f"{path.name} is not in the run's folder: no dev score has been taken yet")
    best = torch.load(path, map_location="cpu", weights_only=True)
    trainee, tokenizer, _ = fresh(seed, "cpu", causal)
    model = trainee.model
    model.load_state_dict(best["model"])
    return model.half().float().eval(), tokenizer, best


def export(folder: Path, out: Path, families: tuple[str, ...], seed: int, test_n: int, causal: bool = False,
           command: str = "python -m analysis.train_mini") -> dict:
    """Write model, tokenizer, image processor, `redvtp.json` and the card; returns the test scores by family."""
    model, tokenizer, best = load_best(folder, seed, causal)
    write_folder(model, tokenizer, out)
    scores, hashes, rows, kinds = {}, [], [], []
    for name in families:
        samples = get(name).samples("test", test_n, seed=0)
        scores[name] = found = score(model, tokenizer, samples)
        empty = score(model, tokenizer, [blank(sample) for sample in samples])
        found["blank"] = empty["exact"]
        hashes.append(f"- {name} `{data_hash(samples)}`")
        rows.append(f"| {name} | {FAMILIES[name].mirrors} | {found['n']} | {found['exact']:.1%} | "
                    f"{found['low']:.1%} to {found['high']:.1%} | {empty['exact']:.1%} |")
        if len(found["kinds"]) > 1:
            kinds.append(f"- {name}: " + ", ".join(f"{kind} {rate:.0%}" for kind, rate in found["kinds"].items()))
        print(name, {key: value for key, value in found.items()}, flush=True)
    lines = map(json.loads, (folder / "curve.jsonl").read_text().splitlines())
    curve = [line for line in lines if f"dev_{families[0]}" in line and line["step"] <= best["step"]]
    notes = folder / "notes.md"
    cores = best["threads"]
    card = CARD.format(
        **(CAUSAL if causal else DIFFUSION), parameters=sum(weight.numel() for weight in model.parameters()) / 1e6,
        rows="\n".join(rows), hashes="\n".join(hashes), kinds="\n".join(kinds) or "- one only",
        notes=notes.read_text() if notes.exists() else "", command=command, steps=best["step"],
        minutes=best["seconds"] / 60, machine=f"{cores} threads of an {provenance.device_model()}",
        dev_n=best["dev_n"], names=" | ".join(families), dashes="---|" * len(families),
        seed=seed,
        curve="\n".join(f"| {line['step']} | {line['seconds'] / 60:.0f} | "
                        + " | ".join(f"{line['dev_' + name]:.0%}" for name in families) + " |" for line in curve))
    (out / "README.md").write_text(card)
    return scores


def write_folder(model, tokenizer, out: Path) -> None:
    """The folder itself: fp16 safetensors, tokenizer, image processor and what redvtp needs to know.

    An autoregressive model has no `redvtp.json`: it is no host of the diffusion loop.
    """
    out.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(out)
    model.float()
    tokenizer.save_pretrained(out)
    build_image_processor().save_pretrained(out)
    if not model.config.text_config.is_causal:
        note = {"host": "llada_v", "system_prompt": None, "aspect": "anyres"}
        (out / "redvtp.json").write_text(json.dumps(note) + "\n")
