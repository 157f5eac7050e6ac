"""A papermill engine that leaves a kernel in peace until it has finished."""

from __future__ import annotations

import time
from queue import Empty
from typing import Any, TextIO

from nbclient.util import run_sync
from papermill.clientwrap import PapermillNotebookClient
from papermill.engines import NBClientEngine, papermill_engines
from papermill.log import logger

ENGINE = "redvtp"
SECONDS_TO_IDLE = 10.0


class PatientClient(PapermillNotebookClient):
    """Takes a reply as final only when the kernel is idle as well.

    A kernel sends its reply before it leaves the handler of the question, and a kernel is shut down with an
    interrupt first, for a cell that may still run. After the last reply of a notebook this interrupt would now and
    then find the kernel still in that handler, and the kernel would report it on the user's terminal as an error.
    Idle kernels ignore interrupts. A cell that Ctrl-C left running has no reply, and is interrupted as before.
    """

    def wait_for_reply(self, msg_id: str, cell: Any = None) -> dict[str, Any] | None:
        reply = super().wait_for_reply(msg_id, cell)
        deadline = time.monotonic() + SECONDS_TO_IDLE
        while reply is not None and (left := deadline - time.monotonic()) > 0:
            try:
                told = run_sync(self.kc.get_iopub_msg)(timeout=left)
            except Empty:
                break
            if told["parent_header"].get("msg_id") == msg_id and told["content"].get("execution_state") == "idle":
                break
        return reply


class PatientEngine(NBClientEngine):
    """papermill's own engine with this client."""

    @classmethod
    def execute_managed_notebook(
        cls, nb_man: Any, kernel_name: str, *, start_timeout: int, stdout_file: TextIO, stderr_file: TextIO, **_: Any
    ) -> None:
        PatientClient(
            nb_man,
            kernel_name=kernel_name,
            startup_timeout=start_timeout,
            timeout=None,  # a cell may take as long as it needs
            stdout_file=stdout_file,
            stderr_file=stderr_file,
            log=logger,
        ).execute()


papermill_engines.register(ENGINE, PatientEngine)
