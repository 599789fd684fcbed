"""What a supplier is told about a file. All files are checked in one call, for dbt takes seconds to start."""

import os
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from dagster_project.settings import SettingsError
from dagster_project.supplier_check import FileReport, check_files

DAY = date(2020, 7, 11)
SOLD_AT = datetime(2020, 7, 10, 12, tzinfo=UTC)
HEADER = "ticket_id;store_id;sold_at;ticket_type;email;phone;total_amount;cashier"
PERSON = ("Rosalie", "Quenotte", "rosalie.quenotte", "0612")
UGLY = [
    "T1;S1;10/07/2020 14:51:15;sale;rosalie.quenotte@mail.example;;87,85;Rosalie",
    *[f"T{n};S1;2020-07-10;sale;Rosalie Quenotte;;1.234,00;Rosalie" for n in range(2, 9)],
    "T9;S1;10/07/2031 14:51:15;sale;;;87,85;",
    "T10;S1;10/07/2020 14:51:15;gift;;;87,85;",
    "T11;S1;10/07/2020 14:51:15;sale;rosalie.quenotte",
]
TICKET = {"ticket_id": "T1", "store_id": "S1", "sold_at": SOLD_AT, "ticket_type": "sale", "total_amount": "1,00"}
LINE = {"ticket_id": "T7", "line_no": 1, "product_id": "P1", "quantity": 1, "unit_price": "1,00", "amount": "1,00"}


@pytest.fixture(scope="module")
def reports(supplier, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, FileReport]]:
    landing = tmp_path_factory.mktemp("landing")
    shop = supplier(landing)
    files = {
        "clean": shop.deliver("pos_tickets", DAY, [TICKET], "clean.csv"),
        "headerless": shop.deliver("pos_ticket_lines", DAY, [LINE], "headerless.csv"),
        "half empty": shop.deliver("pos_tickets", DAY, [{**TICKET, "phone": "0612"}], "half.csv"),
    }
    for name, rows in {
        "ugly": [HEADER, *UGLY],
        "columnless": ["ticket_id;total_amount", "T1;1,00"],
        "foreign": ["ticket_id,sold_at,total_amount", "T1,2020-07-10,1.00"],
        "still coming": [HEADER, UGLY[0]],
    }.items():
        suffix = ".csv.part" if name == "still coming" else ".csv"
        files[name] = landing / "pos_tickets" / DAY.isoformat() / f"{name}{suffix}"
        files[name].write_text("\n".join(rows) + "\n", encoding="latin-1")
    before = dict(os.environ)
    try:
        found = check_files(list(files.values()), None)
        yield dict(zip(files, found, strict=True))
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_a_clean_file_has_no_findings(reports: dict[str, FileReport]) -> None:
    report = reports["clean"]
    assert (report.feed, report.row_count, report.status) == ("pos_tickets", 1, "loaded")
    assert report.findings == ()
    assert report.is_clean


def test_a_line_whose_header_lies_in_another_file_is_clean(reports: dict[str, FileReport]) -> None:
    assert reports["headerless"].is_clean


def test_an_optional_value_that_becomes_null_is_told_and_leaves_the_file_clean(reports: dict[str, FileReport]) -> None:
    assert reports["half empty"].findings == (
        "1 row with a value that becomes null (unreadable_value; line 1 after the header): "
        "phone must be a telephone number.",
    )
    assert reports["half empty"].is_clean


def test_each_rule_says_how_many_rows_which_and_what_to_do(reports: dict[str, FileReport]) -> None:
    report = reports["ugly"]
    assert not report.is_clean
    assert report.row_count == 11
    refused = [finding for finding in report.findings if " refused (" in finding]
    assert refused == [
        "7 rows refused (unreadable_value; lines 2, 3, 4, 5, 6, ... after the header): "
        "sold_at cannot be read; it must be DD/MM/YYYY HH:MM:SS in Paris time.",
        "1 row refused (in_the_future; line 9 after the header): "
        "sold_at lies after the day of delivery + 1; correct it and deliver the row again.",
        "1 row refused (wrong_column_count; line 11 after the header): "
        "the row has more or fewer values than the header has names; look for a separator inside a value.",
        "1 row refused (unknown_choice; line 10 after the header): "
        "ticket_type cannot be read; it must be one of sale, return, pickup.",
    ]


def test_the_second_bad_column_of_a_refused_row_is_told_too(reports: dict[str, FileReport]) -> None:
    assert any("7 rows refused already" in f and "total_amount must be" in f for f in reports["ugly"].findings)


def test_unknown_columns_are_told_and_missing_mandatory_ones_loudly(reports: dict[str, FileReport]) -> None:
    assert "Columns that the contract does not know, never loaded: cashier." in reports["ugly"].findings
    assert (
        reports["columnless"].findings[0].startswith("MANDATORY COLUMNS ARE MISSING: store_id, sold_at, ticket_type.")
    )
    assert not reports["columnless"].is_clean


@pytest.mark.parametrize(("name", "cause"), [("foreign", "separated by «,»"), ("still coming", "does not end with")])
def test_a_file_that_the_run_could_not_read_says_why(reports: dict[str, FileReport], name: str, cause: str) -> None:
    assert reports[name].status == "unreadable"
    assert cause in reports[name].findings[0]
    assert not reports[name].is_clean


def test_no_finding_holds_a_value_of_the_file(reports: dict[str, FileReport]) -> None:
    told = " ".join(finding for report in reports.values() for finding in report.findings)
    assert not [value for value in PERSON if value in told]


def test_a_feed_that_cannot_be_told_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "tickets.csv"
    path.write_text(HEADER, encoding="latin-1")
    with pytest.raises(SettingsError, match="name it with --feed"):
        check_files([path], None)
    with pytest.raises(SettingsError, match="There is no feed «tickets»"):
        check_files([path], "tickets")


def test_a_file_outside_a_day_is_checked_as_the_named_feed(tmp_path: Path) -> None:
    path = tmp_path / "tickets.csv"
    path.write_text(HEADER + "\n", encoding="latin-1")
    (report,) = check_files([path], "pos_tickets")
    assert (report.feed, report.status, report.is_clean) == ("pos_tickets", "empty", True)
