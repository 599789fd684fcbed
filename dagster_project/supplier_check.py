"""What a supplier is told about a file before it is delivered: what the run would make of it, without a run.

The run's own code reads the files and builds ``staging.quarantine`` in a home that is thrown away. A line without its
header is no finding, for the header may come in another file; nor is a key that comes twice. Not for deciding what is
wrong: that is ``domain.landing`` and ``dbt/models/staging``.
"""

import tempfile
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb

from dagster_project.domain.contract import Feed, feeds
from dagster_project.domain.countries import write_country_names
from dagster_project.domain.landing.deliveries import SUFFIXES, Delivery
from dagster_project.domain.landing.reader import read_file
from dagster_project.domain.landing.tables import create_views, write_files, write_rejected_rows
from dagster_project.domain.phones import write_phone_numbers
from dagster_project.settings import Settings, SettingsError, load_settings
from dagster_project.stages import LANDING, STAGING
from dagster_project.transform import TransformError, build
from dagster_project.warehouse import Warehouse

# A row is refused for its first bad column; the supplier wants to hear of the others too, before they deliver again.
_FINDINGS = """
    with refused as (
        select file, line, column_name, rule, message from staging.quarantine where rule <> 'header_missing'
    ),
    others as (
        select
            files.file, problems.line, problems.column_name, problems.rule, problems.is_mandatory,
            problems.left_because,
            problems.column_name || ' must ' || case problems.rule
                when 'in_the_future' then 'not lie after the day of delivery + 1'
                else 'be ' || problems.expected_form
            end as message
        from staging.problems as problems
        join landing.files as files using (feed, file_no)
        anti join refused on
            refused.file = files.file and refused.line = problems.line and refused.column_name = problems.column_name
    ),
    told as (
        select file, 'refused' as effect, rule, message, line from refused
        union all
        select
            file,
            case
                when not is_mandatory then 'with a value that becomes null'
                when left_because is null then 'refused already'
                else 'refused, and delivered again later'
            end,
            rule, message, line
        from others
    )
    select file, effect, rule, message, count(*), list_slice(list(line order by line), 1, 5)
    from told
    group by file, effect, rule, message
    order by file, effect = 'refused' desc, effect desc, count(*) desc, message
"""


@dataclass(frozen=True)
class FileReport:
    """What the run would make of one file; ``findings`` are sentences that hold none of its values.

    ``is_clean``: the file could be read to its end and no row would be refused. Columns that are ignored and optional
    values that become null are told, and leave a file clean.
    """

    file: str
    feed: str
    row_count: int
    status: str
    findings: tuple[str, ...]
    is_clean: bool


def _day(folder: str) -> date | None:
    try:
        day = date.fromisoformat(folder)
    except ValueError:
        return None
    return day if day.isoformat() == folder else None


def _delivery(path: Path, feed: str | None) -> Delivery:
    """The file as a delivery, of today where its folder names no day."""
    place = path.resolve()
    day, folder = _day(place.parent.name), place.parent.parent.name
    if feed is None and (day is None or folder not in feeds()):
        raise SettingsError(
            f"{path} does not lie in <feed>/<YYYY-MM-DD>/, so its feed cannot be told: name it with --feed."
        )
    name = feed or folder
    if name not in feeds():
        raise SettingsError(f"There is no feed «{name}»; the feeds are {', '.join(feeds())}.")
    return Delivery(name, str(path), day or datetime.now(UTC).date(), path.stat().st_size, path.stat().st_mtime_ns)


def _read(connection: duckdb.DuckDBPyConnection, found: Delivery, raw: Path, most_unpacked_bytes: int) -> Delivery:
    if not found.file.endswith(SUFFIXES):
        return replace(found, status="unreadable", message=f"its name does not end with {', '.join(SUFFIXES)}")
    return read_file(
        connection, found, Path(found.file).resolve(), feeds()[found.feed], raw, most_unpacked_bytes=most_unpacked_bytes
    )


def _judge_rows(settings: Settings, warehouse: Warehouse, deliveries: list[Delivery]) -> dict[str, list[tuple]]:
    """Per file, what is wrong with its rows: effect, rule, sentence, how many rows, the first five of them."""
    with warehouse.session(LANDING) as connection:
        write_files(connection, deliveries, max(delivery.delivered_on for delivery in deliveries))
        create_views(connection, settings.raw)
        write_rejected_rows(connection)
        write_phone_numbers(connection, settings.default_country)
        write_country_names(connection)
    for node in build(settings, STAGING, warehouse, select="+quarantine"):
        if node.status in ("error", "fail", "skipped"):
            raise TransformError(f"{node.unique_id} ended as {node.status}: the project is at fault, not a file.")
    found: dict[str, list[tuple]] = {}
    with warehouse.session(STAGING) as connection:
        for file, *finding in connection.execute(_FINDINGS).fetchall():
            found.setdefault(file, []).append(tuple(finding))
    return found


def _report(delivery: Delivery, feed: Feed, findings: list[tuple]) -> FileReport:
    missing = delivery.missing_columns.split(", ")
    mandatory = [column.name for column in feed.columns if column.mandatory and column.name in missing]
    optional = [column.name for column in feed.columns if not column.mandatory and column.name in missing]
    sentences = [f"The file as a whole: {delivery.message}."] if delivery.message else []
    if mandatory:
        sentences.append(f"MANDATORY COLUMNS ARE MISSING: {', '.join(mandatory)}. No row counts without them.")
    if optional:
        sentences.append(f"Optional columns that are missing, read as empty: {', '.join(optional)}.")
    if delivery.unknown_columns:
        sentences.append(f"Columns that the contract does not know, never loaded: {delivery.unknown_columns}.")
    for effect, rule, message, count, lines in findings:
        shown = ", ".join(str(line) for line in lines) + (", ..." if count > len(lines) else "")
        place = f"line{'s' if count > 1 else ''} {shown} after the header"
        sentences.append(f"{count} row{'s' if count > 1 else ''} {effect} ({rule}; {place}): {message}.")
    is_refused = bool(mandatory) or any(effect == "refused" for effect, *_ in findings)
    is_clean = delivery.status in ("loaded", "empty") and not is_refused
    return FileReport(delivery.file, feed.name, delivery.row_count, delivery.status, tuple(sentences), is_clean)


def check_files(files: list[Path], feed: str | None) -> list[FileReport]:
    """One report per file, in the order given; the files are judged each for itself, in one build.

    ``feed`` holds for all files; None tells it from each file's folder. Raises SettingsError where that cannot be, and
    TransformError where the models cannot be built. Takes some seconds, whatever the number of files.
    """
    found = [_delivery(path, feed) for path in dict.fromkeys(files)]
    with tempfile.TemporaryDirectory(prefix="cocanal-check-") as home:
        settings = load_settings(home=Path(home))
        settings.raw.mkdir(mode=0o700)
        warehouse = Warehouse(settings)
        with warehouse.scratch() as connection:
            deliveries = [_read(connection, delivery, settings.raw, settings.most_unpacked_bytes) for delivery in found]
        has_rows = any(delivery.row_count for delivery in deliveries)
        rows = _judge_rows(settings, warehouse, deliveries) if has_rows else {}
    return [_report(delivery, feeds()[delivery.feed], rows.get(delivery.file, [])) for delivery in deliveries]
