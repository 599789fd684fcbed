"""``cocanal quarantine``: what was refused, by cause, and the refused rows as a file for the supplier.

Presentation only. What is shown is the last build: of a night that a gate stopped the working database, else the
current release.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Column, Table

from dagster_project.commands.terminal import WRONG_USE, Home, complaints, console, settings_of, told_in_sentences

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

    from dagster_project.settings import Settings

app = typer.Typer(no_args_is_help=True, help="Work with refused rows: see why, and send them back to the supplier.")
_Feed = Annotated[str | None, typer.Option("--feed", help="Only this feed.")]


@contextmanager
def _last_build(settings: "Settings") -> Iterator[tuple["DuckDBPyConnection", str, str]]:
    """A connection on the last build, its id, and what it is in words."""
    import duckdb

    from dagster_project.domain.identity.explanation import attach_release
    from dagster_project.domain.release import ReleaseError, current_release
    from dagster_project.run_lock import hold_run_lock, is_locked, release_run_lock
    from dagster_project.warehouse import Warehouse

    current = current_release(settings.home)
    if not is_locked(settings.lock) and settings.warehouse.exists():
        hold_run_lock(settings.lock)
        try:
            with Warehouse(settings).read_only() as connection:
                build_id = _stopped_build(connection)
                if build_id and (current is None or build_id > current.release_id):
                    yield connection, build_id, f"the night {build_id}, which did not end in a release"
                    return
        except duckdb.IOException:
            pass  # damaged, or another program has it open: the release is whole
        finally:
            release_run_lock(settings.lock)
    if current is None:
        raise ReleaseError(f"There is no release in {settings.home} yet: «cocanal run» makes one.")
    with Warehouse(settings).scratch() as connection:
        attach_release(connection, current.directory)
        connection.execute("use cocanal")
        yield connection, current.release_id, f"release {current.release_id}"


def _stopped_build(connection: "DuckDBPyConnection") -> str | None:
    """The id of a build that came as far as its quarantine; None where it did not."""
    import duckdb

    try:
        connection.execute("select 1 from staging.quarantine_summary limit 1").fetchall()
        ((build_id,),) = connection.execute("select build_id from landing.builds").fetchall()
    except duckdb.CatalogException:
        return None
    return str(build_id)


@app.command(name="list")
def list_causes(home: Home = None, feed: _Feed = None, limit: Annotated[int, typer.Option(min=1)] = 50) -> None:
    """List what is in quarantine by feed, rule, file and day, with counts and amounts; the largest first."""
    from dagster_project.domain.formats import Formats

    with told_in_sentences():
        settings = settings_of(home)
        _known(feed)
        formats = Formats(settings.currency)
        with _last_build(settings) as (connection, _, what):
            rows = connection.execute(
                """
                select feed, rule, column_name, file, delivered_on, row_count, amount, first_lines, message
                from staging.quarantine_summary
                where $1 is null or feed = $1
                order by row_count desc, feed, file, rule, column_name
                """,
                [feed],
            ).fetchall()
        console.print(f"Quarantine of {what}: {formats.number(sum(row[5] for row in rows))} rows.", soft_wrap=True)
        if not rows:
            return
        table = Table(
            Column("rows", justify="right"),
            Column("amount", justify="right"),
            Column("why", overflow="fold"),
            Column("where", overflow="fold"),
            box=SIMPLE_HEAD,
            pad_edge=False,
        )
        for _, rule, column, file, _, count, amount, first_lines, message in rows[:limit]:
            why = f"{rule}{f' in {column}' if column else ''}: {message}"
            money = "" if amount is None else formats.money(amount)
            table.add_row(formats.number(count), money, escape(why), escape(f"{file}, lines {first_lines}"))
        console.print(table)
        if len(rows) > limit:
            console.print(f"… and {len(rows) - limit} more; see them with --limit {len(rows)}.")
        console.print("The rows as a file for the supplier: cocanal quarantine export FEED", soft_wrap=True)


@app.command()
def export(
    feed: Annotated[str, typer.Argument(help="Feed whose refused rows are written.")],
    home: Home = None,
    rule: Annotated[str | None, typer.Option("--rule", help="Only rows that this rule refused.")] = None,
    file: Annotated[str | None, typer.Option("--file", help="Only rows of this file, path under landing.")] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="The file; default: quarantine/<feed>_<build>.csv in the home.", dir_okay=False),
    ] = None,
) -> None:
    """Write the refused rows of a feed as delivered, with what is wrong with each: correct them and deliver again.

    The file holds personal data, only you may read it, and that it was written is logged in explain/access.log.
    Exit codes: 0 written, 2 wrong use or nothing to write.
    """
    from dagster_project.access_log import log_access, own_folder
    from dagster_project.domain.contract import feeds
    from dagster_project.domain.quarantine_export import NothingToExport, Wanted
    from dagster_project.domain.quarantine_export import export as write

    with told_in_sentences():
        settings = settings_of(home)
        _known(feed)
        try:
            with _last_build(settings) as (connection, build_id, what):
                target = out or settings.home / "quarantine" / f"{feed}_{build_id}.csv"
                if out is None:
                    own_folder(target.parent)
                count = write(connection, settings.raw, Wanted(feeds()[feed], rule, file), target)
                log_access(settings.home, "exported for the supplier", quarantine=feed)
        except NothingToExport as error:
            complaints.print(escape(str(error)), style="red", soft_wrap=True)
            raise typer.Exit(WRONG_USE) from None
        except OSError as error:
            complaints.print(escape(f"{error.filename}: {error.strerror}. Nothing is written."), style="red")
            raise typer.Exit(WRONG_USE) from None
        formats_count = f"{count} row{'s' if count > 1 else ''}"
        console.print(f"{formats_count} of {what}: {escape(str(target))}", soft_wrap=True)
        console.print("It holds personal data: send it by a safe way, and delete it.", soft_wrap=True)


def _known(feed: str | None) -> None:
    from dagster_project.domain.contract import feeds
    from dagster_project.settings import SettingsError

    if feed is not None and feed not in feeds():
        raise SettingsError(f"There is no feed «{feed}»; the feeds are {', '.join(feeds())}.")
