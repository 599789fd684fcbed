"""Refused rows are worked with: seen by cause, sent back to the supplier, and gone once they come corrected."""

import csv
import json
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest
from typer.testing import CliRunner

from dagster_project.cli import app


def cocanal(*words: Any) -> Any:
    return CliRunner().invoke(app, [str(word) for word in words])


def exported(home: Path, feed: str, *options: Any) -> list[dict[str, str]]:
    told = cocanal("quarantine", "export", feed, "--home", home, "--out", home / "back.csv", *options)
    assert told.exit_code == 0, told.output
    encoding, delimiter = ("cp1252", ";") if feed.startswith("pos_") else ("utf-8", ",")
    with (home / "back.csv").open(encoding=encoding, newline="") as source:
        return list(csv.DictReader(source, delimiter=delimiter))


def test_causes_are_listed_with_counts_and_amounts_as_the_table_says(home: Path) -> None:
    with duckdb.connect(str(home / "releases" / "current" / "cocanal.duckdb"), read_only=True) as connection:
        ((count, file),) = connection.execute(
            """
            select (select count(*) from staging.quarantine where feed = 'pos_tickets'), file
            from staging.quarantine_summary where feed = 'pos_tickets' order by row_count desc, file limit 1
            """
        ).fetchall()
    told = cocanal("quarantine", "list", "--feed", "pos_tickets", "--home", home)
    assert told.exit_code == 0, told.output
    assert f": {count} rows." in told.output
    assert file.split("/")[1] in told.output and "€" in told.output
    assert "@" not in told.output


def test_refused_rows_go_back_as_they_came_in_the_notation_of_the_feed(home: Path, broken_value: str) -> None:
    with duckdb.connect(str(home / "releases" / "current" / "cocanal.duckdb"), read_only=True) as connection:
        refused = connection.execute(
            "select file, line, rule, record_id from staging.quarantine where feed = 'pos_tickets' order by file, line"
        ).fetchall()
    rows = exported(home, "pos_tickets")
    assert [
        (row["quarantine_file"], int(row["quarantine_line"]), row["quarantine_rule"], row["ticket_id"]) for row in rows
    ] == refused
    assert all(broken_value in (row["sold_at"], row["total_amount"]) for row in rows)
    assert all(row["quarantine_message"] for row in rows)
    assert (home / "back.csv").stat().st_mode & 0o077 == 0
    (line,) = (home / "explain" / "access.log").read_text().splitlines()
    assert json.loads(line)["quarantine"] == "pos_tickets"


def test_what_a_spreadsheet_would_run_is_disarmed_and_numbers_stay(
    home: Path, supplier: Any, run_in: Any, instance: dg.DagsterInstance, retailer: Any
) -> None:
    hostile = {
        "customer_id": "C-HOSTILE",
        "first_name": '=HYPERLINK("http://evil.example","click")',
        "last_name": '"; DROP TABLE x; --',
        "phone": "+33465710001",
        "created_at": "yesterday",
        "updated_at": "2020-07-01T10:00:00Z",
    }
    supplier(home / "landing").deliver("shop_customers", retailer.LAST, [hostile], "part_09.csv")
    assert run_in(home).outcome == "released"
    (row,) = exported(home, "shop_customers", "--file", f"shop_customers/{retailer.LAST}/part_09.csv")
    assert row["first_name"] == "'" + hostile["first_name"]
    assert row["last_name"] == hostile["last_name"]
    assert row["phone"] == "+33465710001"
    assert row["created_at"] == "yesterday"


def test_a_file_that_was_exported_and_corrected_can_be_delivered_as_it_is(
    home: Path, run_in: Any, instance: dg.DagsterInstance, retailer: Any, broken_value: str
) -> None:
    rows = exported(home, "shop_orders")
    folder = home / "landing" / "shop_orders" / retailer.LAST.isoformat()
    with (folder / "part_99_corrected.csv").open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, rows[0].keys(), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            for column, right in (
                ("total_amount", "10.00"),
                ("ordered_at", "2020-07-01T10:00:00Z"),
                ("updated_at", "2020-07-01T10:00:00Z"),
            ):
                if row[column] == broken_value:
                    row[column] = right
            writer.writerow(row)
    night = run_in(home)
    assert night.outcome == "released", night.sentences
    told = cocanal("quarantine", "export", "shop_orders", "--home", home)
    assert told.exit_code == 2
    assert "No row of shop_orders that you ask for is in quarantine." in told.output


def test_after_a_night_that_was_stopped_its_own_quarantine_is_shown(
    home: Path, supplier: Any, run_in: Any, instance: dg.DagsterInstance, retailer: Any
) -> None:
    rows = [
        {"event_id": f"B{n}", "session_id": "V1", "event": "visit", "occurred_at": "31/02/2020 25:61"}
        for n in range(120)
    ]
    supplier(home / "landing").deliver("web_events", retailer.LAST, rows, "part_02.csv")
    assert run_in(home).outcome == "stopped"
    told = cocanal("quarantine", "list", "--feed", "web_events", "--home", home)
    assert told.exit_code == 0, told.output
    assert "which did not end in a release: 120 rows." in told.output
    assert len(exported(home, "web_events")) == 120


@pytest.mark.parametrize("words", [("list", "--feed", "tickets"), ("export", "tickets")])
def test_a_feed_that_does_not_exist_is_said(base_home: Path, words: tuple[str, ...]) -> None:
    told = cocanal("quarantine", *words, "--home", base_home)
    assert told.exit_code == 2
    assert "There is no feed «tickets»" in told.output
