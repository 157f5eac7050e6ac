"""Reruns of the official code in 16 bits: how many of the kept tokens are those of its fp32 run.

The recorded overlap is between two runs of the official code, so ours is taken against its fp32 run, too. Whole 16-bit
forwards of different kernels do not agree to the bit: the bars say how far apart they may be.

LLaDA-V's recorded rerun had its rotary frequencies rounded with the weights, which a model that is loaded in 16 bits
has not; they are rounded here for the comparison. LaViDa's are fp32 in any case.
"""

from __future__ import annotations

import torch

from redvtp import Decoding, RedVTP
from redvtp.models.llada_v import LladaV
from redvtp.models.llava import LlavaHost
from tests.parity.cases import Case, Hosts, find_cases
from tests.parity.comparison import Comparison
from tests.parity.generation import settings_of

DTYPES = {"torch.float16": torch.float16, "torch.bfloat16": torch.bfloat16}
# Share of the kept tokens, share of the number of distinct scores, share of the smallest and largest score.
BARS = {torch.float16: (0.002, 0.03, 0.02), torch.bfloat16: (0.01, 0.05, 0.3)}


def run(case: Case, found: Comparison, hosts: Hosts) -> None:
    """Repeat the cut of each rerun with the official rounding."""
    reference = fp32_run(case)
    theirs = set(reference.tensors["keep_local_idx"].tolist())
    for name, facts in case.facts.items():
        found.use(name)
        dtype, (overlap, distinct, extremes) = DTYPES[name], BARS[DTYPES[name]]
        kept, scores = cut(reference, reference.host.from_folder(reference.family / "weights_A", dtype))
        found.same(f"{name}, n_visual", len(scores), facts["n_visual"])
        found.same(f"{name}, dtype", str(dtype), facts["dtype"])
        share = torch.tensor(len(kept & theirs) / len(theirs))
        found.close(f"{name}, overlap_kept", share, torch.tensor(facts["overlap_kept"]), overlap)
        values, recorded = len(scores.unique()), facts["distinct_importance_values"]
        found.close(f"{name}, distinct", torch.tensor(values), torch.tensor(recorded), distinct * recorded)
        if "importance_min_max" in facts:
            ratio = torch.stack([scores.min(), scores.max()]) / torch.tensor(facts["importance_min_max"])
            found.close(f"{name}, importance_min_max", ratio, torch.ones(2), extremes)


def fp32_run(case: Case) -> Case:
    """The official fp32 run that the reruns repeat."""
    runs = (one for one in find_cases(case.folder) if one.name.startswith("A_e2e") and one.name.endswith("keep50"))
    return next(one for one in runs if not one.published_fork)


def cut(case: Case, host: LlavaHost) -> tuple[set[int], torch.Tensor]:
    """The tokens kept after the first step, and the scores ``[n]``."""
    facts, settings = case.facts, settings_of(case.facts)
    if isinstance(host, LladaV):
        frequencies = host.decoder.rotary_emb.inv_freq
        frequencies.copy_(frequencies.to(host.model.dtype))
    host.mask_id = facts.get("mask_id", host.mask_id)
    state = host.begin_from_ids(case.tensors["input_ids"][0].tolist(), case.images(), settings.length)
    method, scores = RedVTP(keep=float(facts["keep_ratio"]), rounding="official"), Scores()
    decoding = Decoding(host, state, settings, scores.watching(method))
    decoding.step()
    return set(decoding.kept[0].tolist()), scores.score[0]


class Scores:
    """Looks at the scores that a method gives."""

    def watching(self, method: RedVTP) -> RedVTP:
        """The method, whose scores are left here as ``score``."""
        outer = self

        class Watched(RedVTP):
            def score(self, view):
                outer.score = super().score(view)
                return outer.score

        return Watched(keep=method.keep, rounding=method.rounding)
