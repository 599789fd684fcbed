"""Landing: takes in what was delivered and opens a build. Nothing new means no build, and nothing downstream runs."""

import shutil
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime

import dagster as dg
import duckdb
from pydantic import Field

from dagster_project.assets.specs import Stopwatch, source_specs
from dagster_project.domain import release
from dagster_project.domain.contract import feeds
from dagster_project.domain.fingerprint import file_stamp, fingerprint
from dagster_project.domain.landing.deliveries import ERASURES, add_to_released, believable_newest_date, read_released
from dagster_project.domain.landing.intake import Intake, forget_damaged, take_in
from dagster_project.domain.landing.tables import (
    create_views,
    write_carried_out,
    write_file_names,
    write_files,
    write_last_audiences,
    write_rejected_rows,
)
from dagster_project.domain.retention import is_kept, read_removals
from dagster_project.mishaps import find_lack_of_space
from dagster_project.privacy import CARRIED_OUT, erase_again, read_carried_out, refuse_while_unfinished
from dagster_project.quality.gate import create_results_table
from dagster_project.run_lock import hold_run_lock
from dagster_project.settings import Settings, parse_day
from dagster_project.stages import LANDING
from dagster_project.warehouse import Warehouse

SCHEDULED_TAG = "cocanal/scheduled"


class NightConfig(dg.Config):
    """What a person may ask of one run."""

    as_of: str | None = Field(None, description="Day to judge everything at, YYYY-MM-DD; default: the newest delivery.")
    accept: dict[str, str] = Field(
        {}, description="Gates, or gate.statement, that may fail in this run, each with the reason."
    )
    rebuild: bool = Field(False, description="Make everything again from raw, caches too, even if nothing is new.")


class NothingDelivered(Exception):
    """There is no delivery to run on."""


def _settings_of_tables(settings: Settings) -> dict[str, object]:
    return {
        "holdout_share": settings.holdout_share,
        "global_holdout_share": settings.global_holdout_share,
        "holdout_salt": settings.holdout_salt,
        "currency": settings.currency,
        "default_country": settings.default_country,
        "identity_model": file_stamp(settings.identity_model),
        "erasures": file_stamp(settings.raw / ERASURES),
        "carried_out": file_stamp(settings.privacy / CARRIED_OUT),
        "inactive_months": settings.inactive_months,
    }


def _open_build(
    connection: duckdb.DuckDBPyConnection, settings: Settings, intake: Intake, as_of: date, accept: dict[str, str]
) -> str:
    """Write what every later stage reads about this build; returns its id, which becomes the release's."""
    current = release.current_release(settings.home)
    build_id = release.next_release_id(settings.home, datetime.now(UTC))
    previous_as_of = current.manifest()["as_of"] if current else None
    connection.execute(
        """
        create or replace table landing.builds as
        select
            $1::varchar as build_id, $2::date as as_of, $3::varchar as previous_release_id,
            $4::date as previous_as_of, $5::double as holdout_share, $6::double as global_holdout_share,
            $7::varchar as holdout_salt, $8::varchar as currency, $9::varchar as default_country,
            $10::varchar as fingerprint, $11::bigint as inactive_months
        """,
        [
            build_id,
            as_of,
            current.release_id if current else None,
            previous_as_of,
            settings.holdout_share,
            settings.global_holdout_share,
            settings.holdout_salt,
            settings.currency,
            settings.default_country,
            fingerprint(intake.deliveries, as_of, _settings_of_tables(settings)),
            settings.inactive_months,
        ],
    )
    connection.execute("create or replace table landing.accepted_gates (gate varchar, because varchar)")
    for gate, because in accept.items():
        connection.execute("insert into landing.accepted_gates values ($1, $2)", [gate, because])
    released = release.input_files([current.directory] if current else [])
    unreleased = (each for each in intake.deliveries if (each.file, each.sha256) not in released)
    write_file_names(connection, "unreleased_files", unreleased)
    write_file_names(connection, "withdrawn_files", intake.withdrawn)
    create_results_table(connection)
    return build_id


def _ever_released_files(settings: Settings) -> set[tuple[str, str]]:
    """Every file that a release was ever made from: also by one that was rolled back, pruned or lost."""
    add_to_released(
        settings.released_files, release.input_files(each.directory for each in release.list_releases(settings.home))
    )
    return read_released(settings.released_files)


def _is_nothing_new(settings: Settings, intake: Intake, as_of: date) -> bool:
    current = release.current_release(settings.home)
    return current is not None and current.manifest()["fingerprint"] == fingerprint(
        intake.deliveries, as_of, _settings_of_tables(settings)
    )


def _compare_with_clock(context: dg.AssetExecutionContext, settings: Settings, as_of: date) -> None:
    """Only the schedule asks whether the deliveries are recent: a person who runs by hand knows what they run on."""
    if SCHEDULED_TAG not in context.run.tags:
        return
    behind = (datetime.now(UTC).date() - as_of).days
    sentence = ""
    if behind > settings.late_after_days:
        sentence = f"The newest delivery is of {as_of}, {behind} days ago: look whether the export jobs still run."
    elif behind < -1:
        sentence = f"The newest delivery is of {as_of}, in {-behind} days: look at the folder's name, and at the clock."
    if sentence:
        if settings.late_action == "stop":
            raise dg.Failure(sentence)
        context.log.warning(sentence)


def landing_assets(settings: Settings, warehouse: Warehouse, manifest: dict) -> dg.AssetsDefinition:
    """``landing.files``, ``landing.rejected_rows``, ``landing.builds`` and a view per feed, in one step."""

    @dg.multi_asset(name=LANDING, specs=source_specs(manifest, LANDING, is_skippable=True), pool="warehouse")
    def landing(context: dg.AssetExecutionContext, config: NightConfig) -> Iterator[dg.MaterializeResult]:
        watch = Stopwatch()
        # A run from the command line holds the lock already, and was told at once if somebody else did.
        hold_run_lock(settings.lock, settings.wait_minutes * 60)
        refuse_while_unfinished(settings)
        release.clear_unfinished(settings.home)
        known_id = release.remembered_release(settings.published_mark)
        if problem := release.find_pointer_damage(settings.home, known_id):
            raise release.ReleaseError(problem)
        if config.rebuild:
            # What only saves time is thrown away, should it be what is wrong; the memory of identity goes below.
            shutil.rmtree(settings.dbt_target, ignore_errors=True)
            for path in forget_damaged(settings.landing, settings.raw, settings.register, connect=warehouse.scratch):
                context.log.warning(f"{path} was damaged and is read again from landing.")
        as_of = parse_day(config.as_of) if config.as_of else believable_newest_date(settings.landing, settings.register)
        if as_of is None:
            raise NothingDelivered(
                f"Nothing was ever delivered: put files into {settings.landing}/<feed>/<YYYY-MM-DD>/, "
                "or try «cocanal demo»."
            )
        _compare_with_clock(context, settings, as_of)
        told = time.monotonic()

        def progress(done: int, of: int) -> None:
            nonlocal told
            if done == of or time.monotonic() - told > 5:
                told = time.monotonic()
                context.log.info(f"Read {done} of {of} new files.")

        intake = take_in(
            settings.landing,
            settings.raw,
            settings.register,
            as_of=as_of,
            connect=warehouse.scratch,
            workers=settings.threads,
            progress=progress,
            released=_ever_released_files(settings),
            removed=read_removals(settings.raw),
            is_kept=lambda delivery: is_kept(delivery, as_of, settings.keep_raw_days),
            most_unpacked_bytes=settings.most_unpacked_bytes,
            erase=erase_again(settings),
        )
        for stranger in intake.strangers:
            context.log.warning(f"{stranger.path}: {stranger.message}")
        if not intake.deliveries:
            raise NothingDelivered(f"Nothing was delivered on or before {as_of}.")
        if not config.rebuild and _is_nothing_new(settings, intake, as_of):
            context.log.info(f"Nothing is new since the last release (as of {as_of}): nothing is built or published.")
            return
        current = release.release_to_build_on(settings.home, known_id)
        if current and known_id is None:
            release.remember_release(settings.published_mark, current.release_id)
        if lack := find_lack_of_space(settings):
            context.log.warning(lack)
        warehouse.start_afresh(forgets=config.rebuild)
        with warehouse.session(LANDING) as connection:
            build_id = _open_build(connection, settings, intake, as_of, config.accept)
            write_files(connection, intake.deliveries, as_of)
            create_views(connection, settings.raw)
            write_rejected_rows(connection)
            write_carried_out(connection, read_carried_out(settings))
            write_last_audiences(connection, current.directory / release.DATABASES["analysts"] if current else None)
            rows = dict(
                connection.execute("select feed, sum(row_count)::bigint from landing.files group by feed").fetchall()
            )
            ((rejected,),) = connection.execute("select count(*) from landing.rejected_rows").fetchall()
        metadata = {
            "files": {
                "dagster/row_count": len(intake.deliveries),
                "new files": len(intake.new_files),
                "as of": str(as_of),
                "build": build_id,
                **watch.seconds,
                "unknown columns": ", ".join(
                    sorted({f"{d.feed}.{d.unknown_columns}" for d in intake.deliveries if d.unknown_columns})
                ),
            },
            "rejected_rows": {"dagster/row_count": rejected},
            "builds": {"dagster/row_count": 1},
            **{table: {} for table in ("last_members", "last_exclusions", "carried_out_requests")},
            **{feed: {"dagster/row_count": rows.get(feed, 0)} for feed in feeds()},
        }
        for name, values in metadata.items():
            yield dg.MaterializeResult(asset_key=[LANDING, name], metadata=values)

    return landing
