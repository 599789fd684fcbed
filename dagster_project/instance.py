"""Dagster's own home: runs, schedules and logs of this deployment.

``dagster.yaml`` is written once, where it is missing: from then on it is the deployment's (Postgres, retention).
"""

import os
import sqlite3
from pathlib import Path

import dagster as dg

from dagster_project.settings import Settings, environment_of_run

_DAGSTER_YAML = """\
# Written by Cocanal when this home was made; yours to change (docs/operations.md says how to use Postgres).
telemetry:
  enabled: false
nux:
  enabled: false
concurrency:
  # The warehouse has one writer, so one run works at a time: by run, for two runs must not interleave on its tables.
  pools:
    default_limit: 1
    granularity: run
run_monitoring:
  # A run whose process died is marked as failed, and the sensor says so.
  enabled: true
  start_timeout_seconds: 300
retention:
  schedule: {purge_after_days: 90}
  sensor: {purge_after_days: {skipped: 7, failure: 30, success: 30}}
"""


def prepare_instance(settings: Settings) -> Path:
    """Make Dagster's home, with its configuration where it is missing; returns the folder."""
    # Whatever this process and its runs write, nobody but the owner and the group may read.
    os.umask(0o027)
    home = settings.dagster_home
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    config = home / "dagster.yaml"
    if not config.exists():
        unfinished = config.with_suffix(".tmp")
        unfinished.write_text(_DAGSTER_YAML, encoding="utf-8")
        unfinished.replace(config)
    os.environ.update(environment_of_run(settings))
    return home


def open_instance(settings: Settings) -> dg.DagsterInstance:
    """The instance of this home; close it (a context manager)."""
    return dg.DagsterInstance.from_config(str(prepare_instance(settings)))


def find_storage_damage(settings: Settings) -> str | None:
    """A sentence where a SQLite file of Dagster's storage cannot be opened; None where all can, or there is none.

    Looks at the head of each file only, and writes nothing.
    """
    for path in sorted(settings.dagster_home.glob("*/**/*.db")):
        try:
            connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
            try:
                connection.execute("select count(*) from sqlite_master").fetchall()
            finally:
                connection.close()
        except sqlite3.Error as error:
            if "locked" in str(error):
                continue  # somebody writes: it can be opened
            return (
                f"Dagster's storage is damaged ({path}): stop Dagster, move the folders history, storage and schedules "
                f"of {settings.dagster_home} away, and start it again; only the history of runs is lost."
            )
    return None


def schedules_that_are_on(settings: Settings) -> set[str] | None:
    """The names of the schedules that somebody switched on; None where Dagster's storage cannot be asked."""
    os.environ.update(environment_of_run(settings))
    try:
        with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
            return {state.instigator_name for state in instance.all_instigator_state() if state.is_running}
    except Exception:  # whatever storage a deployment has: to ask is not worth an error
        return None
