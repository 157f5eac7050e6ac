"""The benchmarks of the three studies by lmms-eval's task names, and how each is decoded.

LLaDA-V's settings are those of its evaluation script (official_code §3.3), which RedVTP took over. LaViDa's are those
that a comment in RedVTP's LaViDa code gives (§4.5): 2 tokens, and 32 in half as many steps for DocVQA and InfoVQA;
what the comment leaves out is decoded as LLaDA-V decodes it. The redundancy study decodes ChartQA in 8 steps
(redundancy_study §settings). LLaDA-FastV's own settings are not known; its benchmarks are in LLaDA-V's script.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

PROTOCOLS = ("official", "redundancy_study")
THINK = {"think": " /think", "no_think": " /no_think", "none": ""}
"""Modes of thinking -> what LLaDA-V's evaluation puts behind the question."""


@dataclass(frozen=True)
class Decoded:
    """How an answer is decoded: response tokens G, tokens of a block, denoising steps, texts that end it besides the
    end of the turn, and the mode of thinking (LLaDA-V's; a key of ``THINK``)."""

    length: int
    block_length: int
    steps: int
    stop: tuple[str, ...] = ()
    think: str = "no_think"


SHORT = Decoded(2, 2, 2)
CHART = Decoded(16, 16, 16, stop=("\n",))
LONG = Decoded(32, 32, 16)


@dataclass(frozen=True)
class Task:
    """A task of lmms-eval.

    Attributes:
        name: lmms-eval's; benchmark: as results name it, which is how other splits and variants begin, too.
        studies: which of redvtp, llada_v (its script), llada_fastv and redundancy_study report it.
        metrics: lmms-eval's metrics whose sum is the score; none where there is no one score.
        scale: to the papers' numbers, most of which are percent.
        judge: whether lmms-eval asks a language model for the verdict, which needs a key.
        video: needs video, which this code does not read.
    """

    name: str
    benchmark: str
    studies: tuple[str, ...]
    decoded: Decoded
    metrics: tuple[str, ...]
    scale: float = 100.0
    judge: bool = False
    video: bool = False


_REDVTP, _SCRIPT, _FASTV, _STUDY = "redvtp", "llada_v", "llada_fastv", "redundancy_study"

TASKS = {
    task.name: task
    for task in (
        # RedVTP's six
        Task("ai2d", "ai2d", (_REDVTP, _SCRIPT), SHORT, ("exact_match",)),
        Task("realworldqa", "realworldqa", (_REDVTP, _SCRIPT), SHORT, ("exact_match",)),
        Task("infovqa_val", "infovqa", (_REDVTP, _SCRIPT, _STUDY), LONG, ("anls",)),
        Task("docvqa_val", "docvqa", (_REDVTP, _SCRIPT, _STUDY), LONG, ("anls",)),
        Task("mme", "mme", (_REDVTP, _SCRIPT, _FASTV, _STUDY), SHORT,
             ("mme_perception_score", "mme_cognition_score"), scale=1.0),
        Task("mmbench_en_dev", "mmbench", (_REDVTP, _SCRIPT, _STUDY), SHORT, ("gpt_eval_score",), scale=1.0,
             judge=True),
        Task("mmbench_en_dev_static", "mmbench", (), SHORT, ("gpt_eval_score",), scale=1.0),  # the same, unjudged
        # the other studies'
        Task("chartqa", "chartqa", (_SCRIPT, _FASTV, _STUDY), CHART, ("relaxed_overall",)),
        Task("mmmu_val", "mmmu", (_SCRIPT, _FASTV), SHORT, ("mmmu_acc",)),
        Task("mmstar", "mmstar", (_SCRIPT, _FASTV), SHORT, ("average",)),
        Task("scienceqa_img", "scienceqa", (_STUDY,), SHORT, ("exact_match",)),
        Task("gqa", "gqa", (_STUDY,), SHORT, ("exact_match",)),
        Task("pope", "pope", (_STUDY,), SHORT, ("pope_accuracy",)),
        Task("textvqa_val", "textvqa", (_STUDY,), SHORT, ("exact_match",)),
        Task("mmmu_pro_vision", "mmmu_pro", (_SCRIPT, _STUDY), SHORT, ("mmmu_acc",)),
        Task("videomme", "videomme", (_SCRIPT, _STUDY), SHORT, ("videomme_perception_score",), scale=1.0, video=True),
        Task("video_dc499", "video_dc499", (_STUDY,), Decoded(128, 128, 64, think="think"), ("gpt_eval_score",),
             scale=1.0, judge=True, video=True),
        # in LLaDA-V's script with settings of their own; groups of tasks with no score of the whole
        Task("mathvista_testmini", "mathvista", (_SCRIPT,), Decoded(96, 96, 48, think="think"), (), judge=True),
        Task("mathverse_testmini_vision", "mathverse", (_SCRIPT,), Decoded(64, 64, 32, think="think"), (), judge=True),
    )
}  # fmt: skip


def task_of(name: str) -> Task | None:
    """The table's entry for a task, for another split or variant of its benchmark (``docvqa_test``), or None."""
    if name in TASKS:
        return TASKS[name]
    kin = [task for task in TASKS.values() if name == task.benchmark or name.startswith(task.benchmark + "_")]
    return max(kin, key=lambda task: len(task.benchmark), default=None)


def decoded(name: str, host: str, protocol: str = "official") -> Decoded:
    """How a task is decoded; 2 tokens in 2 steps where the table has none, as LLaDA-V's script does it.

    Raises:
        ValueError: an unknown protocol, or a task on video.
    """
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol={protocol!r}: expected one of {', '.join(PROTOCOLS)}")
    task = task_of(name)
    if task is not None and task.video:
        raise ValueError(f"task {name!r} is on video, which is not supported: expected a task on images")
    found = SHORT if task is None else task.decoded
    if protocol == "redundancy_study" and task is not None and task.benchmark == "chartqa":
        found = replace(found, steps=8)
    # LaViDa's evaluation has no stop texts and no modes of thinking (official_code §4.3).
    return replace(found, stop=(), think="none") if host == "lavida" else found


def tasks_of(study: str) -> list[str]:
    """lmms-eval's names of a study's tasks, those on video left out. Raises ValueError for an unknown study."""
    known = dict.fromkeys(one for task in TASKS.values() for one in task.studies)
    if study not in known:
        raise ValueError(f"unknown study {study!r}, expected one of {', '.join(known)}")
    return [task.name for task in TASKS.values() if study in task.studies and not task.video]
