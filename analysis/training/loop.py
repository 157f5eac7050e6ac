"""The training loop: stages, resume, checkpoints, dev scores, one curve line a report."""

from __future__ import annotations

import json
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from analysis.benchmarks import get
from analysis.training import checkpoint, designs
from analysis.training.batches import Batch, Texts, training_batch
from analysis.training.designs import DEFAULT
from analysis.training.evaluate import score
from analysis.training.losses import Trainee, step_loss
from analysis.training.mini_model import PACKED, build_model
from analysis.training.optim import build_optimizers, set_rates
from analysis.training.stages import Stage
from analysis.training.teacher import distil_loss, inherit, load_causal, load_teacher, take_over
from analysis.training.tokenizer import build_tokenizer

REPORT_SECONDS, SAVE_SECONDS = 10, 90


@dataclass
class Options:
    """What a run is told.

    folder: where checkpoint, best weights and curve go. minutes: limit of this call. compile: use
    torch.compile on the layers. dev_n: dev samples a family; dev_minutes: time between dev scores.
    causal: train the autoregressive control. tower: the folder of another run, whose tower a new run
    starts with, after the first stage, as published models start from a tower that others trained.
    host: whose mini model it is. teacher: the trained mini model, by folder or name in `data/`, that a
    new run starts from where its design says so. adapt: the autoregressive mini model whose weights a new
    diffusion run goes on from, seeing both ways.
    """

    families: tuple[str, ...]
    seed: int
    stages: tuple[Stage, ...]
    folder: Path
    minutes: float = float("inf")
    device: str = "cpu"
    causal: bool = False
    tower: Path | None = None
    compile: bool = True
    dev_n: int = 32
    dev_minutes: float = 5.0
    host: str = DEFAULT
    teacher: str | None = None
    adapt: str | None = None

    @property
    def identity(self) -> dict:
        """What a run may not change when it is continued."""
        return {name: getattr(self, name) for name in ("seed", "families", "causal", "host", "teacher", "adapt")}


def check(host: str, teacher: str | None, causal: bool = False, tower: Path | str | None = None,
          adapt: str | None = None) -> None:
    """Refuse options that do not go together, with a ValueError that says what is expected."""
    other = "causal" if causal else "tower" if tower else "teacher" if teacher else None
    if adapt and other:
        raise ValueError(f"--{other} is given with --adapt {adapt}, which brings its own weights")
    if adapt and host != DEFAULT:
        raise ValueError(f"--adapt is given with --host {host}, expected {DEFAULT}, the network of the control")
    taught = designs.get(host).taught
    if taught and (causal or tower):
        raise ValueError(f"--{'causal' if causal else 'tower'} is given with --host {host}, expected --teacher only")
    if taught and not teacher:
        raise ValueError(f"--host {host} is given without --teacher, expected a mini model, for example mini/{DEFAULT}")
    if teacher and not taught:
        raise ValueError(f"--teacher is given with --host {host}, which is trained from nothing")


def fresh(seed: int, device: str, causal: bool = False, host: str = DEFAULT):
    """(trainee, tokenizer, optimizers) initialised from `seed`."""
    torch.manual_seed(seed)
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, causal, host=host)
    model.set_attn_implementation({"text_config": PACKED, "vision_config": designs.get(host).tower_attention})
    trainee = Trainee(model, tokenizer).to(device)
    return trainee, tokenizer, build_optimizers(trainee)


def can_compile(device: str) -> bool:
    """Whether torch.compile works here, tried on one sum; a line says so where it does not.

    It needs a C++ compiler, and its linker calls do not survive an environment in a folder with a space.
    """
    try:
        torch.compile(lambda x: x + 1)(torch.zeros(8, device=device))
    except Exception as error:  # whatever the compiler's driver raises
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        print(f"torch.compile does not work here ({reason[:120]}): training without it, which is slower", flush=True)
        return False
    return True


class Run:
    """A run that can be stopped anywhere: `Run(options).train()` goes on from the folder's checkpoint."""

    def __init__(self, options: Options):
        check(options.host, options.teacher, options.causal, options.tower, options.adapt)
        self.options = options
        self.trainee, self.tokenizer, self.optimizers = fresh(options.seed, options.device, options.causal,
                                                              options.host)
        self.teacher = None
        if options.teacher:
            self.teacher = load_teacher(options.teacher, self.tokenizer).to(options.device)
        self.progress = (checkpoint.restore(options.folder, self.trainee, self.optimizers, **options.identity)
                         or self._first())
        self.names = [stage.name for stage in options.stages]
        if self.progress.stage not in self.names:
            known = ", ".join(self.names)
            raise ValueError(f"the run stands in stage {self.progress.stage!r}, expected one of {known}")
        self.texts = Texts(self.tokenizer)
        # A run from a teacher is over before compiling for all its lengths would have paid.
        if options.compile and not self.teacher and can_compile(options.device):
            self._compile()
        self.drawer, self.drawn = ThreadPoolExecutor(1), None
        self.started, self.before = time.time(), self.progress.seconds
        self.reported = self.saved = self.scored = self.started

    def _first(self) -> checkpoint.Progress:
        options, stage = self.options, self.options.stages[0]
        if options.tower:
            checkpoint.restore_tower(options.tower, self.trainee)
            stage = options.stages[1]
        if self.teacher:
            inherit(self.trainee.model, self.teacher)
        if options.adapt:
            take_over(self.trainee.model, load_causal(options.adapt, self.tokenizer))
        return checkpoint.Progress(stage.name, **options.identity)

    def _compile(self) -> None:
        torch._dynamo.config.cache_size_limit = 512
        torch._dynamo.config.accumulated_cache_size_limit = 4096
        network = self.trainee.model.model
        for layer in (*network.language_model.layers, *network.vision_tower.encoder.layers):
            layer.compile(dynamic=False)

    def train(self) -> bool:
        """Train to the end or to the limit; True when every stage is done."""
        for stage in self.options.stages[self.names.index(self.progress.stage):]:
            if self.progress.stage != stage.name:
                self.progress.stage, self.progress.in_stage = stage.name, 0
            while self.progress.in_stage < stage.steps:
                log = self._step(stage)
                self.progress.in_stage += 1
                self.progress.step += 1
                if self._house_keeping(stage, log):
                    return False
            self._dev(stage)
            self._save()
        return True

    def _is_full(self, stage: Stage, step: int) -> bool:
        return stage.is_full(step) and not self.options.causal

    def _draw(self, stage: Stage, ahead: int = 0) -> Future:
        """Start to draw the batch of the step `ahead` of this one."""
        full = self._is_full(stage, self.progress.in_stage + ahead)
        return self.drawer.submit(
            training_batch, self.texts, self.options.families, self.progress.step + ahead, self.options.seed,
            stage.full_pages if full else stage.pages, 1 if full else stage.questions,
            None if full else stage.length, stage.count)

    def _batch(self, stage: Stage) -> Batch:
        """This step's batch; the next one of the stage is drawn while this one is learned from."""
        batch = (self.drawn or self._draw(stage)).result()
        self.drawn = self._draw(stage, 1) if self.progress.in_stage + 1 < stage.steps else None
        return batch.to(self.options.device)

    def _step(self, stage: Stage) -> dict:
        step, options = self.progress.in_stage, self.options
        full, batch = self._is_full(stage, step), self._batch(stage)
        generator = torch.Generator().manual_seed(options.seed * 1_000_003 + self.progress.step)
        with torch.autocast(options.device.split(":")[0], torch.bfloat16):
            if stage.distil:
                result = distil_loss(self.trainee.model, self.teacher, batch.pixels)
            else:
                result = step_loss(self.trainee, batch, stage.weights, not full, generator, frozen=not stage.tower,
                                   blind=stage.is_blind(step) and batch.answers.shape[-1] == 2,
                                   prefix=stage.is_prefix(step))
        result.total.backward()
        set_rates(self.optimizers, stage.scale(step), stage.tower)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        return {"loss": result.total.detach(), "full": full, **result.log}

    def _house_keeping(self, stage: Stage, log: dict) -> bool:
        now = time.time()
        self.progress.seconds = self.before + now - self.started
        if not bool(torch.isfinite(log["loss"])):
            raise FloatingPointError(f"loss is not finite at step {self.progress.step}; the last checkpoint is good")
        if now - self.reported > REPORT_SECONDS:
            self.reported = now
            self._report(stage, log)
        if now - self.scored > self.options.dev_minutes * 60 and stage.weights.answer:
            self._dev(stage)
        over = now - self.started > self.options.minutes * 60
        if over or now - self.saved > SAVE_SECONDS:
            self._save()
        return over

    def _save(self) -> None:
        self.saved = time.time()
        checkpoint.save(self.options.folder, self.trainee, self.optimizers, self.progress)

    def _dev(self, stage: Stage) -> None:
        """Score the dev samples; keep the weights when the worst family is the best so far."""
        if not stage.weights.answer:
            return
        line = {}
        for name in self.options.families:
            samples = get(name).samples("dev", self.options.dev_n, seed=0)
            result = score(self.trainee.model, self.tokenizer, samples, designs.get(self.options.host))
            line[f"dev_{name}"], line[f"dev_{name}_characters"] = result["exact"], result["characters"]
        self.scored = time.time()
        worst = min(line[f"dev_{name}"] for name in self.options.families)
        total = worst + 1e-3 * sum(line[f"dev_{name}_characters"] for name in self.options.families)
        if total >= self.progress.best:
            self.progress.best = total
            checkpoint.write(self.options.folder / checkpoint.BEST,
                             {"model": self.trainee.model.state_dict(), "step": self.progress.step, "dev": line,
                              "dev_n": self.options.dev_n, "threads": torch.get_num_threads(),
                              "seconds": self.progress.seconds})
        self._report(stage, line)

    def _report(self, stage: Stage, log: dict) -> None:
        """One line of the curve file, and the same for people with the time left at the mean rate so far."""
        done = self.progress
        left = sum(other.steps for other in self.options.stages[self.names.index(stage.name):]) - done.in_stage
        rate = done.seconds / max(1, done.step)
        line = {"step": done.step, "stage": stage.name, "in_stage": done.in_stage, "seconds": round(done.seconds, 1),
                **{name: round(float(value), 4) for name, value in log.items()}}
        self.options.folder.mkdir(parents=True, exist_ok=True)
        with open(self.options.folder / "curve.jsonl", "a") as file:
            file.write(json.dumps(line) + "\n")
        hidden = ("seconds", "stage", "in_stage")
        text = " ".join(f"{name} {value}" for name, value in line.items() if name not in hidden)
        print(f"[{stage.name} {done.in_stage}/{stage.steps}] {text} elapsed {done.seconds / 60:.1f} min "
              f"eta {left * rate / 60:.0f} min", flush=True)
