"""The rights of people, carried out on a home: erasure step by step, and what a night must know of it.

Here belongs the order of the steps, which a killed run can take up again: who is concerned is written to
``privacy/open`` first and removed last. Each step does nothing where it was done before. Not for what a step does
(``domain.privacy``), nor for what is printed (``commands.privacy``).
"""

import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb

from dagster_project.access_log import log_access, own_folder, write_privately
from dagster_project.domain import release
from dagster_project.domain.contract import Feed
from dagster_project.domain.landing.deliveries import read_register, read_released, read_versions
from dagster_project.domain.privacy import access
from dagster_project.domain.privacy.export_erasure import erase_in_exports
from dagster_project.domain.privacy.raw_erasure import ErasedFile, Eraser, erase_in_raw, erase_landed, write_down
from dagster_project.domain.privacy.receipt import Receipt, file_name, make_receipt, write_receipt
from dagster_project.domain.privacy.release_erasure import erase_in_releases
from dagster_project.domain.privacy.removals import REMOVALS, remember_removals
from dagster_project.domain.privacy.resolution import open_erasures, requests_without_account, resolve_subjects
from dagster_project.domain.privacy.search import find_left_over
from dagster_project.domain.privacy.subject import Because, Subject, read_subjects, write_subjects
from dagster_project.domain.privacy.tombstones import add_tombstones, read_key, read_tombstones, tombstones_of
from dagster_project.domain.private_file import write_private_lines
from dagster_project.domain.sql_literal import literal
from dagster_project.run_lock import hold_run_lock, release_run_lock
from dagster_project.settings import Settings, SettingsError
from dagster_project.warehouse import Warehouse

TOMBSTONES = "tombstones.jsonl"
CARRIED_OUT = "carried_out.jsonl"
UNDECIDED = "undecided.json"
RECEIPTS = "receipts"
_WORK = "open"
_SUBJECTS = "subjects.jsonl"
_LEFT_OVER = "left_over.jsonl"
# Seconds between two sentences about the progress of a long step.
_PAUSE = 10.0
# The number of the request that retention makes of itself: all whose period is over at a day are one subject.
_RETENTION = "retention-{as_of}"


class ErasureUnfinished(Exception):
    """An erasure was cut off: no night runs before it is taken up again; the message says how."""


@dataclass(frozen=True)
class Plan:
    """What an erasure would do: the request, the accounts and records concerned by feed, identifiers that stay."""

    request_id: str
    received_at: datetime
    because: str
    account_count: int
    record_counts: dict[str, int]
    shared_count: int


def erase_again(settings: Settings) -> Callable[[duckdb.DuckDBPyConnection, Feed, Path, str], None]:
    """What a night does to each new raw file: rows of people who were erased are emptied before they count."""
    tombstones = read_tombstones(settings.privacy / TOMBSTONES)
    if not tombstones.num_rows:
        return lambda connection, feed, path, sha256: None
    eraser = Eraser(read_key(settings.privacy), tombstones, settings.default_country)

    def erase(connection: duckdb.DuckDBPyConnection, feed: Feed, path: Path, sha256: str) -> None:
        removed, blanked = eraser.erase_in(connection, feed, path)
        if removed or blanked:
            write_down(settings.raw, [ErasedFile(feed.name, sha256, removed, blanked)], at=None)

    return erase


def is_unfinished(settings: Settings) -> bool:
    """Whether an erasure was cut off."""
    return (settings.privacy / _WORK / _SUBJECTS).is_file()


def has_left_over(settings: Settings) -> bool:
    """Whether the search after an erasure found something, which the next erasure begins with."""
    return (settings.privacy / _WORK / _LEFT_OVER).is_file()


def refuse_while_unfinished(settings: Settings) -> None:
    """Raises ErasureUnfinished where an erasure was cut off: a night would build on what half of it left."""
    if is_unfinished(settings):
        raise ErasureUnfinished("An erasure was cut off: «cocanal privacy erase» takes it up again where it was.")


def read_carried_out(settings: Settings) -> dict[str, dict[str, Any]]:
    """What was carried out, by the number of the request."""
    path = settings.privacy / CARRIED_OUT
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {entry["request_id"]: entry for entry in map(json.loads, lines)}


@dataclass(frozen=True)
class Request:
    """One request with its deadline. ``state`` is ``open``, ``overdue``, ``carried out``, ``respected`` (an objection,
    which every night respects) or ``to be confirmed`` (several accounts hold its e-mail or phone, who may be several
    people; or one held it once, and none does now). ``days_left`` counts from the as-of date of the release.
    """

    request_id: str
    kind: str
    received_on: date
    due_on: date
    days_left: int
    account_count: int
    state: str

    @property
    def is_waiting(self) -> bool:
        """Whether somebody still has to do something."""
        return self.state in ("open", "overdue", "to be confirmed")

    @property
    def is_overdue(self) -> bool:
        return self.is_waiting and self.days_left < 0


def requests(connection: duckdb.DuckDBPyConnection, settings: Settings) -> list[Request]:
    """Every request that the current release knows of, the most urgent first; any connection will do.

    What was carried out since the release counts as that; what the last erasure could not decide is to be confirmed.
    Raises ReleaseError without a release, or where it was made by a version that knew no deadlines.
    """
    current = release.current_release(settings.home)
    if current is None:
        raise release.ReleaseError("There is no release yet, so no request is known: run «cocanal run» first.")
    connection.execute(_attached(current.directory))
    try:
        rows = connection.execute(
            """
            select
                request_id, kind, received_on, due_on, days_left, account_count,
                case
                    when list_contains($1::varchar[], request_id) then 'carried out'
                    when list_contains($2::varchar[], request_id) then 'to be confirmed'
                    else state
                end as state_now
            from released.account.request_deadlines
            order by state_now not in ('open', 'overdue', 'to be confirmed'), due_on, request_id
            """,
            [list(read_carried_out(settings)), list(_read_undecided(settings))],
        ).fetchall()
    except duckdb.CatalogException:
        raise release.ReleaseError(
            f"The release {current.release_id} was made by a version that knew no deadlines: run «cocanal run» first."
        ) from None
    return [Request(*row) for row in rows]


def plan(settings: Settings, *, with_retention: bool = False, confirmed: Collection[str] = ()) -> list[Plan]:
    """What ``erase`` would do, without doing any of it. Raises ReleaseError where there is no release."""
    return [
        Plan(
            each.request_id,
            each.received_at,
            each.because,
            len(each.account_ids),
            {feed: sum(of == feed for of, _ in each.records) for feed in sorted({feed for feed, _ in each.records})},
            len(each.shared),
        )
        for each in _resolve(settings, with_retention, confirmed)[0]
    ]


def _resolve(settings: Settings, with_retention: bool, confirmed: Collection[str]) -> tuple[list[Subject], set[str]]:
    """Who is to be erased, and the requests that wait for somebody to say whom they mean.

    A request by an e-mail or phone of several accounts waits, and goes on waiting when the others have gone: the one
    that is left may be the wrong person. So does one by what an account held once and nobody holds now: it may mean
    that account, or somebody who was given the address or number since.
    """
    current = release.current_release(settings.home)
    if current is None:
        raise release.ReleaseError("There is no release yet, so nobody is known here: run «cocanal run» first.")
    done = read_carried_out(settings)
    as_of = date.fromisoformat(current.manifest()["as_of"])
    # Moments may lie on the day after the delivery's; nothing that was delivered lies later.
    until_at = datetime.combine(as_of + timedelta(days=1), datetime.max.time())

    def resolve(
        asked: list[tuple[str, datetime, tuple[str, ...]]],
        because: Because,
        named: Mapping[str, tuple[str, str]] | None = None,
    ) -> list[Subject]:
        with Warehouse(settings).scratch() as connection:
            return resolve_subjects(
                connection,
                current.directory,
                settings.raw,
                asked,
                because=because,
                until_at=until_at,
                country=settings.default_country,
                named=named,
            )

    with Warehouse(settings).scratch() as connection:
        known = open_erasures(connection, current.directory, done.keys())
    with Warehouse(settings).scratch() as connection:
        unaccounted = requests_without_account(
            connection, current.directory, settings.raw, "erasure", done.keys(), settings.default_country
        )
    undecided = _read_undecided(settings) | {request for request, _, accounts in known if len(accounts) > 1}
    undecided |= {each.request_id for each in unaccounted if each.past_account_ids}
    undecided -= set(confirmed)
    known += [(each.request_id, each.received_at, each.past_account_ids) for each in unaccounted]
    subjects = resolve(
        [each for each in known if each[0] not in undecided],
        "erasure",
        {each.request_id: (each.key_type, each.key_value) for each in unaccounted if each.request_id not in undecided},
    )
    if with_retention:
        taken = {account for subject in subjects for account in subject.account_ids}
        due = tuple(account for account in _due_accounts(settings, current.directory) if account not in taken)
        if due:
            subjects += resolve([(_RETENTION.format(as_of=as_of), until_at, due)], "retention")
    return subjects, undecided


def _read_undecided(settings: Settings) -> set[str]:
    path = settings.privacy / UNDECIDED
    return set(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else set()


def _due_accounts(settings: Settings, folder: Path) -> list[str]:
    with Warehouse(settings).scratch() as connection:
        connection.execute(_attached(folder))
        is_there = connection.execute(
            "select 1 from duckdb_tables()"
            " where database_name = 'released' and schema_name = 'account' and table_name = 'retention'"
        ).fetchall()
        if not is_there:
            return []
        return [
            account
            for (account,) in connection.execute(
                "select account_id from released.account.retention where is_due order by account_id"
            ).fetchall()
        ]


def _attached(folder: Path) -> str:
    return f"attach {literal(folder / release.DATABASES['analysts'])} as released (read_only)"


def erase(
    settings: Settings,
    warehouse: Warehouse,
    at: datetime,
    *,
    with_retention: bool = False,
    confirmed: Collection[str] = (),
    announce: Callable[[str], None] = lambda step: None,
) -> list[Receipt]:
    """Carry out every erasure that the current release knows of, and, ``with_retention``, the periods that are over.

    ``at`` is the moment, with its zone; ``confirmed`` names requests that mean all accounts which hold their e-mail or
    phone. Takes up an erasure that was cut off, first. Afterwards a night publishes a
    release without them, and tells destinations to forget. ``announce`` is told each step by its name, and now and then
    how far a long one is. Raises HomeIsBusy while a run works in the home, ReleaseError where there is no release.
    """
    hold_run_lock(settings.lock)
    try:
        receipts = []
        if is_unfinished(settings):
            receipts += _carry_out(settings, warehouse, at, announce)
        work = settings.privacy / _WORK
        left = read_subjects(work / _LEFT_OVER) if (work / _LEFT_OVER).is_file() else []
        announce("who")
        resolved, undecided = _resolve(settings, with_retention, confirmed)
        if undecided != _read_undecided(settings):
            write_private_lines(settings.privacy / UNDECIDED, [json.dumps(sorted(undecided)), "\n"])
        subjects = [*left, *resolved]
        if subjects:
            work.mkdir(mode=0o700, parents=True, exist_ok=True)
            write_subjects(work / _SUBJECTS, subjects)
            receipts += _carry_out(settings, warehouse, at, announce)
        else:
            _erase_landed(settings)  # what was delivered again since, and was released
        return receipts
    finally:
        release_run_lock(settings.lock)


def _carry_out(
    settings: Settings, warehouse: Warehouse, at: datetime, announce: Callable[[str], None]
) -> list[Receipt]:
    """The steps, from the subjects in ``privacy/open`` to their receipts."""
    work = settings.privacy / _WORK / _SUBJECTS
    subjects = read_subjects(work)
    key = read_key(settings.privacy)
    hashes = [key.hash("request", subject.request_id) for subject in subjects]
    announce("tombstones")
    page = settings.privacy / TOMBSTONES
    add_tombstones(page, tombstones_of(key, *subjects))
    announce("raw")
    eraser = Eraser(key, read_tombstones(page), settings.default_country)
    with warehouse.scratch() as connection:
        raw_files = erase_in_raw(
            connection,
            settings.raw,
            subjects,
            eraser,
            at=at,
            request_hashes=hashes,
            progress=_now_and_then(announce, "raw: {} of {} files"),
        )
    announce("landing")
    landed, waiting = _erase_landed(settings)
    announce("exports")
    exports = erase_in_exports(settings.home, subjects)
    announce("removals")
    newest = next(reversed(release.list_releases(settings.home)), None)
    until = None
    added = 0
    if newest is not None:
        as_of = date.fromisoformat(newest.manifest()["as_of"])
        with warehouse.scratch() as connection:
            added = remember_removals(
                connection,
                settings.privacy / REMOVALS,
                newest.directory / release.DATABASES["restricted"],
                subjects,
                since=as_of,
            )
        until = as_of + timedelta(days=settings.removal_days)
    announce("releases")
    with warehouse.scratch() as connection:
        releases = erase_in_releases(
            connection,
            settings.home,
            subjects,
            at=at,
            request_hashes=hashes,
            progress=_now_and_then(announce, "releases: {} of {}"),
        )
    announce("search")
    with warehouse.scratch() as connection:
        search = find_left_over(
            connection,
            settings.home,
            subjects,
            ignored=_ignored(settings),
            progress=_now_and_then(announce, "search: {} of {} MiB"),
        )
    receipts = [
        make_receipt(
            subject,
            at=at,
            together_count=len(subjects),
            raw_files=raw_files,
            landed=landed,
            exports=exports,
            releases=releases,
            removal_count=added,
            removals_until=until,
            search=search,
            waiting=waiting,
        )
        for subject in subjects
    ]
    for receipt in receipts:
        write_receipt(settings.privacy / RECEIPTS, receipt)
    done = zip(receipts, hashes, strict=True)
    _note_carried_out(
        settings,
        {each.request_id: (each.because, keyed, each.carried_out_at) for each, keyed in done if not each.found},
    )
    if search.found:
        # Somebody has to look: the next erasure begins with them. Nights go on, the tombstones hold.
        work.replace(work.with_name(_LEFT_OVER))
    else:
        work.with_name(_LEFT_OVER).unlink(missing_ok=True)
        work.unlink()
    return receipts


def _now_and_then(announce: Callable[[str], None], words: str) -> Callable[[int, int], None]:
    """What tells how much of how much is done, but not more often than every ten seconds."""
    told = time.monotonic()

    def tell(done: int, of: int) -> None:
        nonlocal told
        if time.monotonic() - told > _PAUSE:
            told = time.monotonic()
            announce(words.format(done, of))

    return tell


def _erase_landed(settings: Settings) -> tuple[list[str], list[str]]:
    return erase_landed(
        settings.landing, settings.raw, read_versions(settings.register), read_released(settings.released_files)
    )


def _ignored(settings: Settings) -> Sequence[Path]:
    """Where hashes stay on purpose, and where nobody may look while a run works: the home's own lock."""
    return (
        settings.privacy,
        settings.lock,
        *settings.releases.glob("*/removals"),
    )


def _note_carried_out(settings: Settings, done: Mapping[str, tuple[str, str, datetime]]) -> None:
    """Add requests (number -> why, keyed hash, moment) to what was carried out."""
    known = read_carried_out(settings)
    for request_id, (because, keyed, at) in done.items():
        known[request_id] = {
            "request_id": request_id,
            "request_hash": keyed,
            "because": because,
            "carried_out_at": at.isoformat(timespec="seconds"),
        }
    write_private_lines(
        settings.privacy / CARRIED_OUT, (json.dumps(entry, sort_keys=True) + "\n" for entry in known.values())
    )


def give_access(settings: Settings, request_id: str, at: datetime, because: str) -> tuple[Path, Path]:
    """Write what is held on the person of a request, as a page and as data, into ``privacy/access``; their paths.

    Who looked, and why, is kept in the log of accesses; the request counts as carried out. Raises ReleaseError where
    the current release does not know the request, where it is none for access, or where it may mean several people;
    SettingsError without a reason.
    """
    if not because.strip():
        raise SettingsError("Say why the data are looked at: --because «…».")
    current = release.current_release(settings.home)
    if current is None:
        raise release.ReleaseError("There is no release yet, so nobody is known here: run «cocanal run» first.")
    as_of = date.fromisoformat(current.manifest()["as_of"])
    with Warehouse(settings).scratch() as connection:
        connection.execute(_attached(current.directory))
        rows = connection.execute(
            """
            select kind, received_at, list(account_id order by account_id)
            from released.account.requests
            where request_id = $1 and is_subject
            group by kind, received_at
            """,
            [request_id],
        ).fetchall()
        connection.execute("detach released")
        named: dict[str, tuple[str, str]] = {}
        if not rows:
            rows, named = _access_without_account(connection, current.directory, settings, request_id)
        ((kind, received_at, accounts),) = rows
        if kind != "access":
            raise release.ReleaseError(
                f"{request_id} is a request for {kind}, and would count as carried out: file a request for access "
                "(cocanal privacy add access)."
            )
        if len(accounts) > 1:
            raise release.ReleaseError(
                f"{request_id} names an e-mail or phone of {len(accounts)} accounts, who may be several people: file a "
                "request that names the web account or card (cocanal privacy add)."
            )
        (subject,) = resolve_subjects(
            connection,
            current.directory,
            settings.raw,
            [(request_id, received_at, accounts)],
            because="erasure",
            until_at=datetime.combine(as_of + timedelta(days=1), datetime.max.time()),
            country=settings.default_country,
            named=named,
        )
        deliveries: dict[tuple[str, str], list[tuple[str, date]]] = {}
        for each in read_register(settings.register).values():
            deliveries.setdefault((each.feed, each.sha256), []).append((each.file, each.delivered_on))
        gathered = access.gather(
            connection, current.directory, settings.raw, deliveries, subject, settings.default_country
        )
    log_access(settings.home, because, request=request_id)
    folder = settings.privacy / "access"
    own_folder(folder)
    page, data = folder / f"{file_name(request_id)}.html", folder / f"{file_name(request_id)}.json"
    write_privately(page, access.as_page(gathered, made_at=at, as_of=as_of, currency=settings.currency))
    write_privately(data, access.as_json(gathered))
    _note_carried_out(settings, {request_id: ("access", read_key(settings.privacy).hash("request", request_id), at)})
    return page, data


def _access_without_account(
    connection: duckdb.DuckDBPyConnection, directory: Path, settings: Settings, request_id: str
) -> tuple[list[tuple[str, datetime, list[str]]], dict[str, tuple[str, str]]]:
    """The request (kind, moment, no account) of somebody who has none, such as a reader of the newsletter, and what it
    names. Raises ReleaseError where there is no such request, or where an account held once what it names.
    """
    found = [
        each
        for each in requests_without_account(
            connection, directory, settings.raw, "access", (), settings.default_country
        )
        if each.request_id == request_id
    ]
    if not found:
        raise release.ReleaseError(f"The current release knows nobody whom {request_id} is about.")
    (asked,) = found
    if asked.past_account_ids:
        raise release.ReleaseError(
            f"{request_id} names an e-mail, phone or number that an account held once and none holds now, so it may "
            "mean two people: file a request that names the web account or card (cocanal privacy add)."
        )
    return [("access", asked.received_at, [])], {request_id: (asked.key_type, asked.key_value)}
