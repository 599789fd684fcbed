"""A dry run of another identity policy, model or threshold: what would change against the current release.

The working database of the last build is copied aside, identity and what follows from it are built anew in the copy,
and both are compared. Nothing is published, and nothing of the home is written but a folder that goes away at the end.
Not for the comparison: ``domain.identity.differences``. Not for presentation: ``commands.identity``.
"""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import duckdb
import yaml

from dagster_project import transform
from dagster_project.domain import release
from dagster_project.domain.identity import Model, Policy, read_model, read_policy, resolve
from dagster_project.domain.identity.differences import Differences, differences
from dagster_project.domain.sql_literal import literal
from dagster_project.run_lock import HomeIsBusy, hold_run_lock, is_locked, release_run_lock
from dagster_project.settings import Settings, SettingsError, environment_of_run
from dagster_project.stages import ACCOUNT, AUDIENCE, IDENTITY, SEGMENT
from dagster_project.warehouse import Warehouse

_PREFIX = ".diff-"
_RUN_ID = "dry run"


@dataclass(frozen=True)
class DryRun:
    """A dry run and what it was of. ``policy`` and ``model`` are the names of files, None where those in force were
    taken; ``released_model_version`` is the model of the release, which may be another than that in force today;
    ``broken_promises`` are the tests of models that would fail, and stop the night.
    """

    release_id: str
    as_of: str
    released_model_version: str
    policy: str | None
    model: str | None
    model_version: str
    accept_weight: float
    differences: Differences
    broken_promises: tuple[str, ...]


def dry_run(
    settings: Settings,
    *,
    policy: Path | None = None,
    model: Path | None = None,
    threshold: float | None = None,
    announce: Callable[[str, float], None] | None = None,
) -> DryRun:
    """Say what the current release would be with another policy, model or accept threshold (log2 odds).

    What is not named is as tonight's run would take it. ``announce`` is told each step that is done and its seconds.
    Raises SettingsError for a file that is no policy or model, ReleaseError where there is nothing to compare with, and
    HomeIsBusy where a run writes. The home's lock is never held: a night that begins meanwhile begins as if nobody was
    there, and a copy that it disturbed is refused.
    """
    chosen_policy = _read_policy(policy)
    chosen_model = _read_model(model or settings.identity_model, is_named=model is not None)
    if threshold is not None:
        chosen_model = replace(chosen_model, accept_weight=threshold)
    current = release.current_release(settings.home)
    if current is None:
        raise release.ReleaseError(f"There is no release in {settings.home} yet: «cocanal run» makes one.")
    last = time.monotonic()

    def done(step: str) -> None:
        nonlocal last
        now = time.monotonic()
        if announce:
            announce(step, now - last)
        last = now

    with home_aside(settings) as aside:
        copy_home(settings, aside)
        warehouse = Warehouse(aside)
        _check_build(warehouse, current.release_id)
        done("copy of the working database")
        analysts = current.directory / release.DATABASES["analysts"]
        begun: list[str] = []

        def identity_is_at(step: str) -> None:
            """Resolve tells what it begins, ``announce`` hears what is done."""
            if begun:
                done(f"{IDENTITY}: {begun.pop()}")
            begun.append(step)

        with warehouse.session(IDENTITY) as connection:
            ((as_of,),) = connection.execute("select as_of from landing.builds").fetchall()
            resolve(
                connection,
                as_of=as_of,
                run_id=_RUN_ID,
                previous=analysts,
                policy=chosen_policy,
                model=chosen_model,
                announce=identity_is_at,
            )
        broken: list[str] = []
        for stage in (ACCOUNT, SEGMENT, AUDIENCE):
            broken += _build(aside, stage, warehouse)
            done(stage)
        with warehouse.session("differences") as connection:
            connection.execute(f"attach {literal(analysts)} as last_release (read_only)")
            released = _released_model(connection)
            ((here,),) = connection.execute("select current_database()").fetchall()
            found = differences(connection, before="last_release", after=here, run_id=_RUN_ID)
        done("comparison")
    return DryRun(
        release_id=current.release_id,
        as_of=as_of.isoformat(),
        released_model_version=released,
        policy=policy.name if policy else None,
        model=model.name if model else None,
        model_version=chosen_model.version,
        accept_weight=chosen_model.accept_weight,
        differences=found,
        broken_promises=tuple(broken),
    )


def _read_policy(path: Path | None) -> Policy:
    if path is None:
        return read_policy()
    try:
        return read_policy(path)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}.") from None
    except (KeyError, TypeError, ValueError, AttributeError, yaml.YAMLError) as error:
        raise SettingsError(f"{path} is no identifier policy: {_missing(error)}") from None


def _read_model(path: Path, *, is_named: bool) -> Model:
    if is_named and not path.is_file():
        raise SettingsError(f"There is no file {path}.")
    try:
        return read_model(path)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}.") from None
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError, json.JSONDecodeError) as error:
        raise SettingsError(f"{path} is no match model: {_missing(error)}") from None


def _missing(error: Exception) -> str:
    if isinstance(error, KeyError):
        return f"the entry {error} is missing."
    return f"{str(error).splitlines()[0].rstrip('.')}."


def _released_model(connection: duckdb.DuckDBPyConnection) -> str:
    """The version of the model that made the attached release; earlier versions of the code did not keep it."""
    ((is_kept,),) = connection.execute(
        "select count(*) > 0 from duckdb_tables() where database_name = 'last_release' and table_name = 'model_levels'"
    ).fetchall()
    if not is_kept:
        return "of an earlier version of Cocanal"
    ((version,),) = connection.execute(
        "select any_value(model_version) from last_release.identity.model_levels"
    ).fetchall()
    return str(version)


@contextmanager
def home_aside(settings: Settings) -> Iterator[Settings]:
    """A home inside the home, which goes away at the end; those that killed runs left go now."""
    for left_over in settings.home.glob(f"{_PREFIX}*"):
        lock = settings.model_copy(update={"home": left_over}).lock
        if lock.exists() and not is_locked(lock):
            shutil.rmtree(left_over, ignore_errors=True)
    home = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=settings.home))
    aside = settings.model_copy(update={"home": home})
    try:
        hold_run_lock(aside.lock)
        yield aside
    finally:
        release_run_lock(aside.lock)
        shutil.rmtree(home, ignore_errors=True)
        os.environ.update(environment_of_run(settings))


def copy_home(settings: Settings, aside: Settings) -> None:
    """Copy the working database, without the lock: who runs is refused, not kept waiting."""
    busy = HomeIsBusy(
        f"A run is writing in {settings.home}, so its working database cannot be copied: "
        "wait for its end («cocanal status»), then ask again."
    )
    if is_locked(settings.lock):
        raise busy
    source = settings.warehouse
    if not source.is_file():
        raise release.ReleaseError(
            f"{settings.home} has no working database of its last build; the next night that releases makes it."
        )
    before = _state(source)
    if shutil.disk_usage(settings.home).free < 2 * source.stat().st_size:
        raise SettingsError(f"There is too little room in {settings.home} for a copy of {source.name}.")
    try:
        for path in (source, source.with_name(source.name + ".wal")):
            if path.exists():
                _copy_file(path, aside.home / path.name)
    except FileNotFoundError:
        raise busy from None
    if is_locked(settings.lock) or _state(source) != before:
        raise busy


def _copy_file(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)
    target.chmod(0o600)


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


def _check_build(warehouse: Warehouse, release_id: str) -> None:
    try:
        with warehouse.session("build") as connection:
            ((build_id,),) = connection.execute("select build_id from landing.builds").fetchall()
            ((staged,),) = connection.execute(
                "select count(*) from duckdb_tables() where schema_name = 'staging' and table_name like 'stg_%'"
            ).fetchall()
    except (duckdb.Error, ValueError):
        raise release.ReleaseError(
            "The working database holds no whole build; the next night that releases makes it."
        ) from None
    if build_id != release_id or not staged:
        raise release.ReleaseError(
            f"The working database is of the build {build_id}, the current release is {release_id}: a run was stopped "
            "after it, or «current» was set back. The next night that releases brings them together."
        )


def _build(aside: Settings, stage: str, warehouse: Warehouse) -> list[str]:
    """Build a stage in the copy; returns the promises that do not hold. Raises TransformError for a model."""
    broken = []
    for result in transform.build(aside, stage, warehouse):
        name = result.unique_id.split(".")[2]
        if result.unique_id.startswith("model.") and result.status != "success":
            raise transform.TransformError(f"{stage}.{name} could not be built ({result.status}) on the copy.")
        if result.status in ("fail", "error"):
            broken.append(f"The test {name} of {stage} would fail for {result.failure_count} rows.")
    return broken
