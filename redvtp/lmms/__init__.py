"""LLaDA-V and LaViDa with pruning as models of lmms-eval.

``pip install "redvtp[lmms]"`` makes ``redvtp_llada_v`` and ``redvtp_lavida`` known to lmms-eval, through the entry
point ``manifests``. ``python -m redvtp.lmms`` is ``python -m lmms_eval`` with a hash of this code and of the weights
among the model arguments, so that lmms-eval's response cache cannot answer for other code.

Nothing here is imported by ``import redvtp``, and only ``adapter`` and ``manifests`` need lmms-eval.
"""

from __future__ import annotations

MODELS = {"redvtp_llada_v": "llada_v", "redvtp_lavida": "lavida"}
"""lmms-eval's name -> the host."""


def manifests() -> list:
    """What lmms-eval's registry asks for: the models and the classes that they are."""
    from lmms_eval.models.registry_v2 import ModelManifest

    classes = {"redvtp_llada_v": "RedvtpLladaV", "redvtp_lavida": "RedvtpLavida"}
    return [ModelManifest(name, simple_class_path=f"redvtp.lmms.adapter.{classes[name]}") for name in MODELS]
