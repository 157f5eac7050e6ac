"""The table of transfer schedules: tokens a step for every length, number of steps and curve."""

from __future__ import annotations

from redvtp.generation.schedules import transfer_quotas
from tests.parity.cases import Case, Hosts
from tests.parity.comparison import Comparison


def run(case: Case, found: Comparison, hosts: Hosts) -> None:
    """Repeat every row."""
    found.use("function")
    rows, ours = case.facts["rows"], []
    for row in rows:
        shift = (row["schedule_kwargs"] or {}).get("shift")
        ours.append(transfer_quotas(row["mask_num"], row["steps"], row["schedule"], shift))
    found.same("errors", [row["error"] for row in rows], [None] * len(rows))
    found.same("rows", ours, [row["num_transfer_tokens"] for row in rows])
