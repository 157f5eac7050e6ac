"""Transfer schedules: what holds for every curve, the official examples, and settings that make no sense."""

from __future__ import annotations

import pytest
import torch

from redvtp import Settings
from redvtp.generation.schedules import SCHEDULES, curve, curve_quotas, even_quotas, transfer_quotas

SHIFTS = (0.05, 0.33, 1 / 3, 1, 3, 20)
CURVES = [(name, None) for name in SCHEDULES] + [("shift", shift) for shift in SHIFTS]


@pytest.mark.parametrize("masked", range(0, 20))
@pytest.mark.parametrize("steps", [1, 2, 3, 7, 16])
def test_even_quotas_sum_up_and_the_first_steps_take_the_remainder(masked, steps):
    quotas = even_quotas(masked, steps)
    assert sum(quotas) == masked
    assert len(quotas) == steps
    assert quotas == sorted(quotas, reverse=True)
    assert max(quotas) - min(quotas) <= 1
    assert transfer_quotas(masked, steps) == quotas


@pytest.mark.parametrize(("name", "shift"), CURVES)
@pytest.mark.parametrize("steps", [1, 2, 5, 16, 40])
def test_curve_quotas_sum_up_and_no_step_is_idle_before_all_is_done(name, shift, steps):
    for masked in range(0, 40):
        quotas = curve_quotas(masked, steps, name, shift)
        assert sum(quotas) == masked
        assert len(quotas) == steps
        used = min(steps, masked)
        assert all(q >= 1 for q in quotas[:used])
        assert quotas[used:] == [0] * (steps - used)


@pytest.mark.parametrize(("name", "shift"), CURVES)
def test_curves_rise_from_0_to_1(name, shift):
    values = curve(torch.linspace(0, 1, 30), name, shift)
    assert values[0] == 0
    assert values[-1] == pytest.approx(1)
    assert bool((values.diff() > 0).all())


def test_a_small_shift_commits_early_and_a_large_one_late():
    early, late = (curve_quotas(32, 16, "shift", shift) for shift in (1 / 3, 3))
    assert sum(early[:4]) > 8 > sum(late[:4])
    assert curve_quotas(32, 16, "shift", 1) == curve_quotas(32, 16, "linear") == [2] * 16


def test_official_examples():
    assert curve_quotas(32, 16, "shift", 1 / 3) == [6, 4, 4, 2, 3, 2, 2] + [1] * 9
    assert curve_quotas(32, 16, "shift", 0.33) == [6, 4, 4, 3, 2, 2, 2] + [1] * 9
    assert curve_quotas(32, 16, "shift") == [1] * 8 + [2, 2, 2, 2, 3, 4, 4, 5]
    assert curve_quotas(64, 32, "shift", 1 / 3) == [6, 5, 5, 4, 3, 4, 3, 2, 3, 2, 3, 2, 2, 1, 2] + [1] * 17
    assert curve_quotas(16, 8, "shift", 1 / 3) == [5, 3, 3] + [1] * 5


def test_steps_follow_from_a_ratio_or_from_a_block():
    assert Settings(length=32).steps == 16
    assert Settings(length=32, step_ratio=0.5).steps == 16
    assert Settings(length=24, step_ratio=0.34).steps == 8
    assert Settings(length=32, block_length=8, step_ratio=0.3).steps == 8
    assert Settings(length=32, block_length=8, step_per_block=4).steps == 16
    assert Settings(length=32, block_length=8, step_per_block=99).steps == 32
    assert Settings(length=32, steps=16, step_ratio=0.5).steps == 16


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"schedule": "fast"}, "schedule='fast': expected None or one of linear, shift, cosine, logit_normal"),
        ({"schedule": "shift", "shift": 0}, "shift=0: expected a finite number above 0"),
        ({"schedule": "shift", "shift": float("nan")}, "shift=nan"),
        ({"schedule": "shift", "shift": "3"}, "shift='3'"),
        ({"schedule": "cosine", "shift": 2}, "shift=2: belongs to schedule='shift', got schedule='cosine'"),
        ({"shift": 2}, "got schedule=None"),
        ({"step_ratio": 0}, r"step_ratio=0: expected a number in \(0, 1\]"),
        ({"step_ratio": 1.5}, "step_ratio=1.5"),
        ({"step_ratio": True}, "step_ratio=True"),
        ({"length": 8, "block_length": 2, "step_ratio": 0.4}, "step_ratio=0.4.*leaves a step in a block of 2"),
        ({"step_per_block": 0}, "step_per_block=0: expected a whole number, 1 or more"),
        ({"step_per_block": 2.0}, "step_per_block=2.0"),
        ({"step_per_block": 2, "step_ratio": 0.5}, "step_ratio=0.5 and step_per_block=2: expected one of them"),
        ({"steps": 8, "step_ratio": 0.5}, "steps=8: step_ratio=0.5 means 16 steps"),
        ({"steps": 8, "step_per_block": 4}, "steps=8: step_per_block=4 means 4 steps"),
    ],
)
def test_settings_that_make_no_sense_are_refused(fields, message):
    with pytest.raises(ValueError, match=message) as caught:
        Settings(**fields)
    assert "\n" not in str(caught.value)


def test_an_unknown_curve_is_refused():
    with pytest.raises(ValueError, match="schedule='fast': expected None or one of"):
        curve_quotas(4, 2, "fast")


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_fills_the_response_in_the_steps_asked_for(model, prompts, name):
    decoding = model.start(prompts[:2], length=8, steps=4, schedule=name)
    masked = []
    while decoding.step():
        masked.append((decoding.canvas == model.host.mask_id).sum(1).tolist())
    left = [sum(curve_quotas(8, 4, name)[step:]) for step in range(1, 4)]
    assert masked == [[n, n] for n in left]
