"""One night, run from the command line: the same job as the schedule's, and its outcome in words.

Not for presentation: ``cli`` prints. Not for the job itself: ``jobs`` and ``definitions``.
"""

import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

import dagster as dg

from dagster_project.definitions import build_defs
from dagster_project.domain import release
from dagster_project.instance import open_instance
from dagster_project.jobs import NIGHTLY
from dagster_project.run_lock import hold_run_lock, release_run_lock
from dagster_project.settings import Settings
from dagster_project.warehouse import Warehouse

Outcome = Literal["released", "nothing_new", "stopped", "unusable", "failed"]
EXIT_CODES: dict[Outcome, int] = {"released": 0, "nothing_new": 0, "stopped": 3, "unusable": 2, "failed": 1}


@dataclass(frozen=True)
class Night:
    """How a night ended: ``sentences`` say what stopped it, one per finding; ``seconds`` per step that was done."""

    outcome: Outcome
    release_id: str | None = None
    sentences: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.outcome]


def masked(text: str) -> str:
    """The text without what could be somebody's address or number: an engine's error may quote the value it met."""
    return re.sub(r"[^\s@'\"]+@[^\s@'\"]+|\+?\d[\d .-]{7,}\d", "…", text)


def _root_error(event: dg.DagsterEvent) -> tuple[str, str]:
    """The class and the first line of the error that a step ended with."""
    error = event.step_failure_data.error
    while error is not None and error.cause is not None:
        error = error.cause
    if error is None:
        return "", ""
    return error.cls_name or "", masked(error.message.split(": ", 1)[-1].strip())


def _findings(warehouse: Warehouse) -> tuple[str, ...]:
    with warehouse.session("findings") as connection:
        rows = connection.execute(
            """
            select sentence from release.gate_results
            where not is_passed and severity = 'stop' and accepted_because is null
            order by gate, statement
            """
        ).fetchall()
    return tuple(sentence for (sentence,) in rows)


def run_night(
    settings: Settings,
    *,
    as_of: date | None = None,
    accept: dict[str, str] | None = None,
    announce: Callable[[str, float], None] | None = None,
    warehouse: Warehouse | None = None,
    is_verbose: bool = False,
) -> Night:
    """Run the nightly job in this process; ``announce`` is told each step that is done and the seconds it took.

    Raises HomeIsBusy where another run works in the home. Every other end is a Night.
    """
    hold_run_lock(settings.lock)
    try:
        return _run(settings, as_of, accept or {}, announce, warehouse or Warehouse(settings), is_verbose)
    finally:
        release_run_lock(settings.lock)


def _run(
    settings: Settings,
    as_of: date | None,
    accept: dict[str, str],
    announce: Callable[[str, float], None] | None,
    warehouse: Warehouse,
    is_verbose: bool,
) -> Night:
    before = release.current_release(settings.home)
    seconds: dict[str, float] = {}
    last = time.monotonic()

    @dg.success_hook
    def step_is_done(context: dg.HookContext) -> None:
        nonlocal last
        now = time.monotonic()
        seconds[context.op.name] = now - last
        if announce:
            announce(context.op.name, now - last)
        last = now

    job = build_defs(settings, warehouse).resolve_job_def(NIGHTLY).with_hooks({step_is_done})
    asked: dict[str, object] = {"accept": accept} | ({"as_of": as_of.isoformat()} if as_of else {})
    config = {
        "ops": {"landing": {"config": asked}},
        "loggers": {"console": {"config": {"log_level": "DEBUG" if is_verbose else "CRITICAL"}}},
    }
    # Where nothing is new every later step is skipped; Dagster then says of each gate that nobody waits for it.
    logging.getLogger("dagster._core.execution.plan.active").setLevel(logging.ERROR)
    with open_instance(settings) as instance:
        result = job.execute_in_process(run_config=config, instance=instance, raise_on_error=False)
    now_current = release.current_release(settings.home)
    if result.success:
        is_new = now_current is not None and (before is None or before.release_id != now_current.release_id)
        return Night(
            "released" if is_new else "nothing_new", now_current.release_id if now_current else None, (), seconds
        )
    failures = [event for event in result.all_events if event.is_step_failure]
    if any((event.step_key or "").endswith("_gate") for event in failures):
        findings = _findings(warehouse)
        if findings:
            return Night("stopped", None, findings, seconds)
    for event in failures:
        kind, message = _root_error(event)
        if kind == "PromiseBroken":
            return Night("stopped", None, (message,), seconds)
        if kind in ("NothingDelivered", "SettingsError"):
            return Night("unusable", None, (message,), seconds)
    sentences = [f"{event.step_key}: {': '.join(_root_error(event))}" for event in failures]
    return Night("failed", None, tuple(sentences) or ("the run could not start; see the log above",), seconds)
