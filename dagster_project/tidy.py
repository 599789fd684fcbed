"""What the weekly job ``tidy`` and the command of that name do: what has been kept for its period goes, and is named.

Not for what goes and why (``domain.retention``, ``domain.release``); the periods are settings.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta

import dagster as dg

from dagster_project.domain import release, retention
from dagster_project.domain.landing.deliveries import find, read_register, read_versions
from dagster_project.domain.retention import Removed
from dagster_project.run_lock import hold_run_lock, release_run_lock
from dagster_project.settings import Settings


def tidy(
    settings: Settings, instance: dg.DagsterInstance, at: datetime, *, is_rehearsal: bool = False
) -> list[Removed]:
    """Remove what has been kept for its period at the moment ``at`` (with its time zone); all that went, by kind.

    Deliveries are judged at the as-of date of the current release, everything else by the clock. With ``is_rehearsal``
    nothing is removed. Raises HomeIsBusy while a run works in the home.
    """
    hold_run_lock(settings.lock)
    try:
        return list(_all(settings, instance, at, is_rehearsal))
    finally:
        release_run_lock(settings.lock)


def _all(settings: Settings, instance: dg.DagsterInstance, at: datetime, is_rehearsal: bool) -> Iterator[Removed]:
    current = release.current_release(settings.home)
    if current is not None:
        manifest = current.manifest()
        as_of = datetime.fromisoformat(manifest["as_of"]).date()
        known = read_register(settings.register)
        yield from retention.remove_raw(
            settings.raw,
            read_versions(settings.register),  # also what was replaced: it has its raw file, and its period
            as_of=as_of,
            keep_days=settings.keep_raw_days,
            at=at,
            is_rehearsal=is_rehearsal,
        )
        if settings.keep_landing_days is not None:
            yield from retention.remove_landed(
                settings.landing,
                find(settings.landing, as_of)[0],
                known,
                {(entry["file"], entry["sha256"]) for entry in manifest["inputs"]},
                before=as_of - timedelta(days=settings.keep_landing_days),
                is_rehearsal=is_rehearsal,
            )
    yield from retention.remove_pages(
        settings.home, before=at - timedelta(days=settings.keep_pages_days), is_rehearsal=is_rehearsal
    )
    yield from retention.remove_left_overs(settings.home, before=at - timedelta(days=1), is_rehearsal=is_rehearsal)
    yield from _old_releases(settings, is_rehearsal)
    yield from _old_runs(settings, instance, at, is_rehearsal)


def _old_releases(settings: Settings, is_rehearsal: bool) -> Iterator[Removed]:
    sizes = {
        each.release_id: sum(path.stat().st_size for path in each.directory.rglob("*") if path.is_file())
        for each in release.old_releases(settings.home, settings.keep_releases)
    }
    if not is_rehearsal:
        release.prune(settings.home, settings.keep_releases)
    for release_id, size in sizes.items():
        yield Removed("release", release_id, size)


def _old_runs(settings: Settings, instance: dg.DagsterInstance, at: datetime, is_rehearsal: bool) -> Iterator[Removed]:
    before = at - timedelta(days=settings.keep_runs_days)
    for record in instance.get_run_records(dg.RunsFilter(created_before=before)):
        if not is_rehearsal:
            instance.delete_run(record.dagster_run.run_id)
        yield Removed("run record", record.dagster_run.run_id, 0)


def say(removed: list[Removed]) -> list[str]:
    """One sentence per kind: how many, how large, and the first five names."""
    sentences = []
    for kind in dict.fromkeys(each.kind for each in removed):
        those = [each for each in removed if each.kind == kind]
        size = sum(each.byte_count for each in those) / 2**20
        names = ", ".join(each.name for each in those[:5]) + (", …" if len(those) > 5 else "")
        weight = f", {size:.1f} MiB" if size else ""
        sentences.append(f"{len(those)} {kind}{'s' if len(those) > 1 else ''}{weight}: {names}")
    return sentences or ["Nothing has been kept for longer than its period."]
