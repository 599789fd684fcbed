"""What state a home is in: one finding per thing looked at, each with what to do. Reads only, whatever else goes on.

Here belongs looking; not mending, which is the next run's or a person's, and not printing. A run in the same moment is
not disturbed: no database of the home is opened while the lock is held, and without ``is_full`` none but releases.
"""

import json
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Literal

import duckdb

from dagster_project.domain import release
from dagster_project.domain.identity.model import read_model
from dagster_project.domain.landing.deliveries import (
    Delivery,
    RawDamaged,
    find,
    is_unchanged,
    read_register,
    read_released,
)
from dagster_project.domain.landing.intake import is_raw_damaged, looks_like_parquet
from dagster_project.domain.retention import is_kept, read_removals
from dagster_project.instance import find_storage_damage, schedules_that_are_on
from dagster_project.mishaps import find_lack_of_space, free_bytes
from dagster_project.privacy import TOMBSTONES, has_left_over, is_unfinished, requests
from dagster_project.run_lock import is_locked
from dagster_project.settings import Settings, find_doubtful_settings

State = Literal["ok", "note", "wrong"]
_MOST_NAMED = 5
_LONG_AGO = date(1900, 1, 1)
_WRITTEN_SINCE_LONG = timedelta(days=1)
_NAMES_OF_UNFINISHED = (".building-", ".discarded-", ".current-")


@dataclass(frozen=True)
class Finding:
    """One thing looked at: ``wrong`` needs somebody, ``note`` is good to know; the sentence says what to do."""

    state: State
    subject: str
    sentence: str


def examine(settings: Settings, *, now: datetime, is_full: bool = False) -> list[Finding]:
    """Every finding of a home, in the order of a walk through it; ``is_full`` also reads every byte of it.

    ``now`` is the moment (with its zone) that ages are counted from.
    """
    if not settings.home.is_dir():
        return [Finding("note", "home", f"There is no home at {settings.home} yet: the first run makes it.")]
    is_busy = is_locked(settings.lock)
    looks: list[tuple[str, Callable[[], Iterator[Finding]]]] = [
        ("home", lambda: _home(settings)),
        ("settings", lambda: _settings_found(settings)),
        ("disk", lambda: _disk(settings)),
        ("run", lambda: _run(settings, is_busy)),
        ("releases", lambda: _releases(settings, now, is_full)),
        ("raw", lambda: _raw(settings, is_full)),
        ("landing", lambda: _landing(settings, now)),
        ("warehouse", lambda: _warehouse(settings, is_busy, is_full)),
        ("identity", lambda: _identity(settings)),
        ("privacy", lambda: _privacy(settings, now, is_busy)),
        ("dagster", lambda: _dagster(settings)),
    ]
    findings = []
    for subject, look in looks:
        try:
            findings += list(look())
        except (OSError, release.ReleaseError) as error:
            if is_busy and isinstance(error, FileNotFoundError):
                continue  # the run moved it while it was looked at
            findings.append(Finding("wrong", subject, f"It cannot be looked at: {error}."))
    return findings


def _privacy(settings: Settings, now: datetime, is_busy: bool) -> Iterator[Finding]:
    """An erasure that was cut off, what one left, the key without which tombstones say nothing, and deadlines."""
    if is_unfinished(settings) and not is_busy:
        yield Finding("wrong", "privacy", "An erasure was cut off: «cocanal privacy erase» takes it up where it was.")
    if has_left_over(settings):
        yield Finding(
            "wrong",
            "privacy",
            "An erasure found something of a person afterwards: the receipts in privacy/receipts say where. Look at "
            "it, then «cocanal privacy erase».",
        )
    if (settings.privacy / TOMBSTONES).is_file() and not (settings.privacy / "key").is_file():
        yield Finding(
            "wrong",
            "privacy",
            f"The key {settings.privacy / 'key'} is gone: erased people come back with the next delivery of an old "
            "file. Put it back from the backup.",
        )
    if release.current_release(settings.home) is None:
        return
    try:
        with duckdb.connect() as connection:
            found = requests(connection, settings)
    except duckdb.Error:
        return  # a release of before there were deadlines
    waiting = [each for each in found if each.state in ("open", "overdue", "to be confirmed")]
    today = now.date()
    late = [each for each in waiting if each.due_on < today]
    if late:
        yield Finding(
            "note",
            "privacy",
            f"{len(late)} of {len(waiting)} open requests of people are overdue: «cocanal privacy list» names them.",
        )
    elif waiting:
        yield Finding("ok", "privacy", f"{len(waiting)} requests of people are open, none overdue.")


def is_well(findings: list[Finding]) -> bool:
    """Whether nobody needs to do anything."""
    return all(finding.state != "wrong" for finding in findings)


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _home(settings: Settings) -> Iterator[Finding]:
    owner = settings.home.stat().st_uid
    if owner != os.geteuid() and os.geteuid() != 0:
        yield Finding("note", "home", f"{settings.home} belongs to another user: look as that user, to see all.")
    foreign = [path.name for path in sorted(settings.home.iterdir()) if path.lstat().st_uid != owner]
    foreign = [name for name in foreign if name != settings.landing.name]
    if foreign:
        yield Finding(
            "wrong",
            "home",
            f"{_named(foreign)} in {settings.home} belong to another user than the home, as after a run by root: "
            "«chown -R» them to the owner of the home, or the next run cannot write there.",
        )
    private = [
        settings.raw,
        settings.warehouse,
        settings.identity_model.parent,
        settings.home / "explain",
        settings.dagster_home,
        *settings.releases.glob("2*Z/restricted.duckdb"),
        *settings.releases.glob("2*Z/audiences"),
    ]
    is_closed = not settings.home.stat().st_mode & stat.S_IXOTH
    open_to_others = [] if is_closed else [path for path in private if path.exists() and path.stat().st_mode & 0o007]
    names = [str(path.relative_to(settings.home)) for path in open_to_others]
    if names:
        yield Finding(
            "wrong",
            "home",
            f"Everybody on this machine can reach {_named(names)}: «chmod -R o-rwx {settings.home}».",
        )
    if not foreign and not open_to_others:
        yield Finding("ok", "home", f"{settings.home} is closed to others.")


def _settings_found(settings: Settings) -> Iterator[Finding]:
    doubts = find_doubtful_settings(settings)
    for doubt in doubts:
        yield Finding("wrong", "settings", doubt)
    if settings.keep_releases < 2:
        yield Finding(
            "note",
            "settings",
            "COCANAL_KEEP_RELEASES is 1: there is nothing to roll back to, and whoever opens a release while it is "
            "replaced may find it gone.",
        )
    if not doubts:
        yield Finding("ok", "settings", "The settings can be right.")


def _disk(settings: Settings) -> Iterator[Finding]:
    lack = find_lack_of_space(settings)
    if lack:
        yield Finding("wrong", "disk", lack)
    else:
        yield Finding("ok", "disk", f"{free_bytes(settings) / 2**30:.1f} GiB are free.")
    if not os.access(settings.home, os.W_OK):
        yield Finding("wrong", "disk", f"This user may not write {settings.home}: run as the user whose it is.")


def _run(settings: Settings, is_busy: bool) -> Iterator[Finding]:
    if settings.lock.exists() and not settings.lock.is_file():
        yield Finding("wrong", "run", f"{settings.lock} is no file, so no run can begin: move it away.")
    left_over = sorted(
        path.name
        for folder, names in (
            (settings.releases, _NAMES_OF_UNFINISHED),
            (settings.raw, (".reading-",)),
            (settings.home, (".diff-", ".decisions-")),
            (settings.spill, ("",)),
        )
        if folder.is_dir()
        for path in folder.iterdir()
        if path.name.startswith(names)
    )
    if is_busy:
        yield Finding("ok", "run", "A run is going on.")
    elif left_over:
        yield Finding(
            "note",
            "run",
            f"The last run did not come to its end; it left {_named(left_over)}. The next run clears that away and "
            "goes on by itself.",
        )
    else:
        yield Finding("ok", "run", "No run is going on, and none left anything behind.")


def _releases(settings: Settings, now: datetime, is_full: bool) -> Iterator[Finding]:
    known_id = release.remembered_release(settings.published_mark)
    if problem := release.find_pointer_damage(settings.home, known_id):
        yield Finding("wrong", "releases", problem)
    current = release.current_release(settings.home)
    whole = []
    for directory in sorted(settings.releases.glob("2*Z")):
        damage = release.find_damage(directory, is_thorough=is_full)
        if damage:
            yield Finding(
                "wrong",
                "releases",
                f"The release {directory.name} is damaged: {'; '.join(damage[:_MOST_NAMED])}. Put it back from the "
                "backup, or move the folder away"
                + (
                    ", after «cocanal release rollback previous»."
                    if current and directory == current.directory
                    else "."
                ),
            )
        else:
            whole.append(directory.name)
    if whole:
        looked = "every byte was read" if is_full else "files and sizes; --full reads every byte"
        yield Finding("ok", "releases", f"{len(whole)} releases are whole ({looked}).")
    if current is None:
        if not whole and known_id is None:
            yield Finding("note", "releases", "There is no release yet.")
        return
    newest = max(whole, default=current.release_id)
    if newest > current.release_id:
        yield Finding(
            "note",
            "releases",
            f"The current release is {current.release_id}, but {newest} is newer: it was rolled back, or a run ended "
            "before it could move the pointer. The next run publishes anew.",
        )
    manifest = current.manifest()
    age = (now.date() - date.fromisoformat(manifest["as_of"])).days
    is_late = age > settings.late_after_days and not settings.demo_mark.exists()
    yield Finding(
        "wrong" if is_late else "ok",
        "releases",
        f"The current release {current.release_id} is as of {manifest['as_of']}, {age} days ago"
        + (": look whether the deliveries come and the nights end in a release." if is_late else "."),
    )


def _raw(settings: Settings, is_full: bool) -> Iterator[Finding]:
    known = _register(settings)
    if known is None:
        yield Finding(
            "wrong",
            "raw",
            f"A page of the register in {settings.register} cannot be read: put it back from the backup. Without it "
            "the next run cannot say what was delivered.",
        )
        return
    try:
        read_released(settings.released_files)
    except RawDamaged as error:
        yield Finding("wrong", "raw", str(error))
    lost, damaged, coming_back = [], [], []
    removed = read_removals(settings.raw)
    with duckdb.connect(config={"threads": settings.threads, "memory_limit": settings.memory_limit}) as connection:
        for feed, sha256 in sorted({(d.feed, d.sha256) for d in known.values() if d.row_count}):
            path = settings.raw / feed / f"{sha256}.parquet"
            shown = f"{feed}/{path.name}"
            if looks_like_parquet(path) and not (is_full and is_raw_damaged(connection, path)):
                continue
            files = [d.file for d in known.values() if (d.feed, d.sha256) == (feed, sha256)]
            is_in_landing = any((settings.landing / file).is_file() for file in files)
            if not is_in_landing and not path.exists() and all((file, sha256) in removed for file in files):
                continue
            if not is_in_landing:
                lost.append(shown)
            elif looks_like_parquet(path):
                damaged.append(shown)
            else:
                coming_back.append(shown)
    if lost:
        yield Finding(
            "wrong",
            "raw",
            f"{len(lost)} raw files are gone or damaged, and landing no longer has the deliveries: {_named(lost)}. Put "
            "them back from the backup, or ask for the deliveries again.",
        )
    if damaged:
        yield Finding(
            "wrong",
            "raw",
            f"{len(damaged)} raw files are damaged ({_named(damaged)}): «cocanal rebuild» reads them anew.",
        )
    if coming_back:
        yield Finding(
            "note",
            "raw",
            f"{len(coming_back)} raw files are gone or cut off; landing has the deliveries, and the next run reads "
            "them again.",
        )
    if not (lost or damaged or coming_back):
        looked = "every value was read" if is_full else "beginning and end of each; --full reads every value"
        yield Finding("ok", "raw", f"Every raw file of {len(known)} deliveries is there ({looked}).")


def _register(settings: Settings) -> dict[str, Delivery] | None:
    """The deliveries that have not been kept for long enough yet; None where the register cannot be read."""
    try:
        known = read_register(settings.register)
    except RawDamaged:
        return None
    as_of = _as_of(settings)
    return {file: one for file, one in known.items() if is_kept(one, as_of, settings.keep_raw_days)}


def _as_of(settings: Settings) -> date:
    """The day of the current release, at which periods are counted; without one every delivery still counts."""
    try:
        current = release.current_release(settings.home)
        return date.fromisoformat(current.manifest()["as_of"]) if current else _LONG_AGO
    except release.ReleaseError:
        return _LONG_AGO


def _unfinished(landing: Path, now: datetime) -> list[str]:
    names = [
        path
        for path in landing.glob("*/*/*")
        if path.name.startswith((".", "_")) or path.name.endswith((".part", ".tmp"))
    ]
    before = (now - _WRITTEN_SINCE_LONG).timestamp()
    return sorted(str(path.relative_to(landing)) for path in names if path.lstat().st_mtime < before)


def _landing(settings: Settings, now: datetime) -> Iterator[Finding]:
    if not settings.landing.is_dir():
        yield Finding("note", "landing", f"There is no {settings.landing}: raw is all that there is to run on.")
        return
    found, strangers = find(settings.landing)
    if strangers:
        yield Finding(
            "note",
            "landing",
            f"{len(strangers)} things in landing are no deliveries (names of feeds, days or files; links): "
            f"{_named([stranger.path for stranger in strangers])}. Rename or remove them.",
        )
    unfinished = _unfinished(settings.landing, now)
    if unfinished:
        yield Finding(
            "note",
            "landing",
            f"{len(unfinished)} files are unfinished for more than a day: {_named(unfinished)}. Ask who writes them; a "
            "finished file is renamed.",
        )
    known = _register(settings) or {}
    as_of = _as_of(settings)
    found = [
        one for one in found if not one.message and is_kept(one, as_of, settings.keep_raw_days)
    ]  # the others were told of by the gate
    new = [delivery for delivery in found if not is_unchanged(delivery, known.get(delivery.file))]
    current = release.current_release(settings.home)
    released = {entry["file"] for entry in current.manifest()["inputs"]} if current else set()
    waiting = [delivery for delivery in found if delivery.file not in released]
    if waiting:
        oldest = min(delivery.delivered_on for delivery in waiting)
        is_late = (now.date() - oldest).days > settings.late_after_days and not settings.demo_mark.exists()
        yield Finding(
            "wrong" if is_late and current else "note",
            "landing",
            f"{len(waiting)} files are in no release yet ({len(new)} of them not read yet), the oldest of {oldest}"
            + (": look why the nights since did not end in a release." if is_late and current else "."),
        )
    elif new:
        yield Finding(
            "note", "landing", f"{len(new)} files changed since they were read: the next run reads them again."
        )
    else:
        yield Finding("ok", "landing", f"Every one of {len(found)} files is in the current release.")


def _warehouse(settings: Settings, is_busy: bool, is_full: bool) -> Iterator[Finding]:
    path = settings.warehouse
    if path.is_dir():
        yield Finding("wrong", "warehouse", f"{path} is a folder, so no run can work: move it away.")
    elif not path.exists():
        yield Finding("ok", "warehouse", "There is no working database; the next run makes one.")
    elif is_busy:
        yield Finding("ok", "warehouse", "The run that is going on has the working database.")
    else:
        damage = _database_damage("warehouse", path, "select any_value(build_id) from landing.builds", is_full)
        yield damage or Finding("ok", "warehouse", "The working database can be opened.")


def _database_damage(subject: str, path: Path, query: str, is_full: bool) -> Finding | None:
    """A note where a database that the next run makes anew cannot be read; None where it can."""
    try:
        release.storage_version(path)
        if is_full:
            with duckdb.connect(str(path), read_only=True) as connection:
                connection.execute(query).fetchall()
    except (duckdb.Error, release.ReleaseError, OSError, ValueError):
        return Finding("note", subject, f"{path} cannot be read: the next run makes it anew. Look at the disk.")
    return None


def _identity(settings: Settings) -> Iterator[Finding]:
    model = settings.identity_model
    try:
        version = read_model(model).version
        own = "its own match model" if model.exists() else "the shipped match model"
        yield Finding("ok", "identity", f"The home uses {own}, {version}.")
    except (OSError, ValueError, KeyError, TypeError) as error:
        yield Finding(
            "wrong",
            "identity",
            f"{model} does not fit this version of Cocanal ({type(error).__name__} {error}): train one («cocanal "
            "identity train»), or move it away, and the shipped one counts.",
        )


def _dagster(settings: Settings) -> Iterator[Finding]:
    if not (settings.dagster_home / "dagster.yaml").is_file():
        yield Finding("note", "dagster", "Dagster has no home here yet: «cocanal run» or «cocanal ui» makes it.")
        return
    damage = find_storage_damage(settings)
    if damage:
        yield Finding("wrong", "dagster", damage)
        return
    on = schedules_that_are_on(settings)
    if on is None:
        yield Finding("note", "dagster", "Dagster's storage could not be asked for its schedules.")
    elif "every_night" in on:
        yield Finding("ok", "dagster", "The nightly schedule is on (if Dagster runs).")
    else:
        yield Finding(
            "note", "dagster", "The nightly schedule is off: something else must run the nights, such as cron."
        )


def as_json(settings: Settings, findings: list[Finding], now: datetime) -> str:
    """The findings for a monitoring system."""
    return json.dumps(
        {
            "home": str(settings.home),
            "looked_at": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "is_well": is_well(findings),
            "findings": [vars(finding) for finding in findings],
        },
        ensure_ascii=False,
        indent=1,
    )
