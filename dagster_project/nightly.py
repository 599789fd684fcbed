"""One night, run from the command line: the same job as the schedule's, and its outcome in words.

Not for presentation: ``cli`` prints. Not for the job itself: ``jobs`` and ``definitions``.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Literal

import dagster as dg
import duckdb

from dagster_project.definitions import build_defs
from dagster_project.domain import release
from dagster_project.instance import find_storage_damage, open_instance, prepare_instance
from dagster_project.jobs import NIGHTLY
from dagster_project.mishaps import explain_mishap, find_lack_of_space, masked, say_lost_warehouse
from dagster_project.run_lock import HomeIsBusy, HomeIsUnusable, hold_run_lock, release_run_lock
from dagster_project.settings import Settings, SettingsError
from dagster_project.stages import LANDING
from dagster_project.transform import TransformError
from dagster_project.warehouse import Warehouse

Outcome = Literal["released", "nothing_new", "stopped", "unusable", "failed"]
EXIT_CODES: dict[Outcome, int] = {"released": 0, "nothing_new": 0, "stopped": 3, "unusable": 2, "failed": 1}


@dataclass(frozen=True)
class Night:
    """How a night ended: ``sentences`` say what stopped it, one per finding; ``seconds`` per step that was done.

    ``notes`` are what somebody should look at although it stopped nothing, ``warnings`` what the gates of a released
    night warn of.
    """

    outcome: Outcome
    release_id: str | None = None
    sentences: tuple[str, ...] = ()
    seconds: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.outcome]


# Errors whose message is a sentence for people already, with dates and paths in it: nothing behind them says more.
_SENTENCES: dict[str, Outcome] = {
    "ErasureUnfinished": "unusable",
    "KeyLost": "unusable",
    "HomeIsBusy": "failed",
    "HomeIsUnusable": "failed",
    "ImplausibleDay": "unusable",
    "NothingDelivered": "unusable",
    "RawDamaged": "failed",
    "ReleaseError": "unusable",
    "SettingsError": "unusable",
}


def _root_error(event: dg.DagsterEvent) -> tuple[str, str]:
    """The class and the message of the error that a step ended with: the first that is a sentence, or the last."""
    error = event.step_failure_data.error
    while error is not None and error.cause is not None and error.cls_name not in _SENTENCES:
        error = error.cause
    if error is None:
        return "", ""
    message = error.message.split(": ", 1)[-1].strip()
    return error.cls_name or "", message if error.cls_name in _SENTENCES else masked(message)


def _findings(warehouse: Warehouse, severity: str = "stop") -> tuple[str, ...]:
    with warehouse.session("findings") as connection:
        rows = connection.execute(
            """
            select sentence from release.gate_results
            where not is_passed and severity = $1 and accepted_because is null
            order by gate, statement
            """,
            [severity],
        ).fetchall()
    return tuple(sentence for (sentence,) in rows)


def _is_lost(warehouse: Warehouse) -> bool:
    """Whether the working database is no longer the one that landing opened the build in."""
    try:
        with warehouse.session("findings") as connection:
            return not connection.execute(
                "select 1 from duckdb_tables() where schema_name = 'landing' and table_name = 'builds'"
            ).fetchall()
    except duckdb.Error:
        return True


def run_night(
    settings: Settings,
    *,
    as_of: date | None = None,
    accept: dict[str, str] | None = None,
    is_rebuild: bool = False,
    wait_minutes: float = 0,
    announce: Callable[[str, float], None] | None = None,
    warehouse: Warehouse | None = None,
    is_verbose: bool = False,
) -> Night:
    """Run the nightly job in this process; ``announce`` is told each step that is done and the seconds it took.

    ``is_rebuild`` makes everything from raw, even where nothing is new. Raises HomeIsBusy where another run works in
    the home and does not end within ``wait_minutes``, HomeIsUnusable where nothing can be written there. Every other
    end is a Night.
    """
    hold_run_lock(settings.lock, wait_minutes * 60)
    asked: dict[str, object] = {"accept": accept or {}, "rebuild": is_rebuild}
    if as_of:
        asked["as_of"] = as_of.isoformat()
    lack = find_lack_of_space(settings)
    notes = (lack,) if lack else ()
    try:
        return _run(settings, asked, announce, warehouse or Warehouse(settings), is_verbose, notes)
    except (SettingsError, HomeIsBusy, HomeIsUnusable, TransformError):
        raise
    except Exception as error:  # whatever the machine does, an unattended run ends with a sentence
        if is_verbose:
            logging.getLogger(__name__).exception("the run ended outside its steps")
        text = f"{type(error).__name__}: {error}"
        sentence = explain_mishap(text, settings) or f"The run could not go on ({masked(text.splitlines()[0])})."
        return Night("failed", None, (sentence,), {}, notes)
    finally:
        release_run_lock(settings.lock)


@contextmanager
def _records_of_runs(settings: Settings) -> Iterator[tuple[dg.DagsterInstance, str | None]]:
    """Dagster's instance of the home; where its storage is damaged one in memory, with a sentence that says so.

    The records of runs are no reason to go without a release.
    """
    damage = find_storage_damage(settings)
    if damage is None:
        with open_instance(settings) as instance:
            yield instance, None
    else:
        prepare_instance(settings)
        with dg.DagsterInstance.ephemeral() as instance:
            yield instance, f"{damage} This run is not recorded there."


def _run(
    settings: Settings,
    asked: dict[str, object],
    announce: Callable[[str, float], None] | None,
    warehouse: Warehouse,
    is_verbose: bool,
    notes: tuple[str, ...],
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
    config = {
        "ops": {"landing": {"config": asked}},
        "loggers": {"console": {"config": {"log_level": "DEBUG" if is_verbose else "CRITICAL"}}},
    }
    # Where nothing is new every later step is skipped; Dagster then says of each gate that nobody waits for it.
    logging.getLogger("dagster._core.execution.plan.active").setLevel(logging.ERROR)
    with _records_of_runs(settings) as (instance, damage):
        notes = (*notes, damage) if damage else notes
        result = job.execute_in_process(run_config=config, instance=instance, raise_on_error=False)
    now_current = release.current_release(settings.home)
    if result.success:
        is_new = now_current is not None and (before is None or before.release_id != now_current.release_id)
        return Night(
            "released" if is_new else "nothing_new",
            now_current.release_id if now_current else None,
            (),
            seconds,
            notes,
            # A run that only finished the move of another's pointer has judged nothing.
            _findings(warehouse, "warn") if "release__current" in seconds else (),
        )
    outcome, sentences = _failure(settings, warehouse, [event for event in result.all_events if event.is_step_failure])
    return Night(outcome, None, sentences, seconds, notes)


def _failure(
    settings: Settings, warehouse: Warehouse, failures: list[dg.DagsterEvent]
) -> tuple[Outcome, tuple[str, ...]]:
    errors = [(event.step_key or "", *_root_error(event)) for event in failures]
    for _, kind, message in errors:
        if kind in _SENTENCES:
            return _SENTENCES[kind], (message,)
        if kind == "PromiseBroken":
            return "stopped", (message,)
    mishaps = [explain_mishap(f"{kind}: {message}", settings) for _, kind, message in errors]
    if not any(mishaps) and any(step != LANDING for step, _, _ in errors) and _is_lost(warehouse):
        return "failed", (say_lost_warehouse(settings),)
    if any(step.endswith("_gate") for step, _, _ in errors) and not any(mishaps):
        findings = _findings(warehouse)
        if findings:
            return "stopped", findings
    sentences = tuple(
        dict.fromkeys(
            mishap or f"{step}: {kind}, {message}"
            for mishap, (step, kind, message) in zip(mishaps, errors, strict=True)
        )
    )
    return "failed", sentences or ("the run could not start; see the log above",)
