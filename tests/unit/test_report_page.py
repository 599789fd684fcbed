"""The page of a release: its figures, its French numbers, and what it must not contain."""

import re
from datetime import date, datetime
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path

import duckdb
import pytest

from dagster_project.domain import charts
from dagster_project.domain.formats import Formats
from dagster_project.domain.report import write_report

TABLES = {
    "release.info": "release_id varchar, as_of date, built_at timestamp, previous_release_id varchar",
    "release.gate_results": "gate varchar, statement varchar, severity varchar, expected varchar, observed double,"
    " failed_scopes varchar, is_passed boolean, accepted_because varchar",
    "landing.files": "feed varchar, file varchar, row_count bigint",
    "staging.quarantine": "feed varchar, file varchar, rule varchar",
    "staging.quarantine_summary": "feed varchar, file varchar, rule varchar, row_count bigint, amount decimal(38, 2)",
    "staging.row_counts": "feed varchar, current_row_count bigint, identical_row_count bigint,"
    " superseded_row_count bigint, refused_row_count bigint, erased_row_count bigint",
    "account.unrefunded_returns": "outstanding_amount decimal(18, 2), days_open bigint",
    "identity.account_links": "feed varchar, record_id varchar, account_id varchar",
    "account.accounts": "account_id varchar, is_online boolean, is_store boolean",
    "account.transactions": "feed varchar, account_id varchar, channel varchar, exclusion varchar,"
    " amount decimal(18, 2)",
    "account.reconciliation": "channel varchar, business_on date, delivered_amount decimal(18, 2),"
    " counted_amount decimal(18, 2), excluded_amount decimal(18, 2)",
    "segment.account_segments": "account_id varchar, scheme varchar, segment varchar, is_trustworthy boolean",
    "audience.audiences": "audience varchar, kind varchar, owner varchar, priority integer, review_on date,"
    " is_review_overdue boolean, purpose varchar, kpi varchar, kpi_target double",
    "audience.members": "audience varchar, destination varchar, arm varchar",
    "audience.waterfall": "audience varchar, destination varchar, reason varchar, reason_order integer",
    "audience.changes": "audience varchar, destination varchar, account_id varchar, change varchar, reason varchar",
}
INFO = "insert into release.info values ('20200715T003000Z', '2020-07-14', '2020-07-15 00:30:00', null)"


def build(directory: Path, *statements: str) -> str:
    with duckdb.connect(directory / "cocanal.duckdb") as connection:
        for table, columns in TABLES.items():
            connection.execute(f"create schema if not exists {table.split('.')[0]}; create table {table} ({columns})")
        for statement in (INFO, *statements):
            connection.execute(statement)
    with duckdb.connect() as connection:
        return write_report(connection, directory).read_text(encoding="utf-8")


def words(page: str) -> str:
    """The page's text, every kind of blank as one space."""

    class Text(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.parts: list[str] = []

        def handle_data(self, data: str) -> None:
            self.parts.append(data)

    parser = Text()
    parser.feed(page)
    return " ".join(" ".join(parser.parts).split())


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    return build(
        tmp_path_factory.mktemp("release"),
        "insert into landing.files values ('pos_tickets', 'f1', 123456), ('shop_orders', 'f2', 44)",
        "insert into staging.quarantine select 'pos_tickets', 'f1', 'sold_at_unreadable' from range(1235)",
        "insert into account.accounts select 'a' || i, i < 3, true from range(9) as r (i)",
        "insert into staging.quarantine_summary values ('pos_tickets', 'f1', 'sold_at_unreadable', 1235, 345.60)",
        "insert into staging.row_counts values"
        " ('pos_tickets', 120000, 221, 2000, 1235, 0), ('shop_orders', 44, 0, 0, 0, 0)",
        "insert into account.unrefunded_returns values (100.00, 9), (245.60, 31)",
        "insert into account.transactions select 'pos_tickets', case when i < 3 then 'a1' end, 'store',"
        " case when i = 7 then 'return_of_online_order' end, -12.30 from range(8) as r (i)",
        "insert into account.reconciliation values"
        " ('online', '2020-06-03', 1234.50, 1200.00, 34.50), ('store', '2020-07-03', 500, 499, 0)",
        "insert into audience.audiences values ('vip', 'marketing', 'crm', 4, '2021-01-31', true,"
        " 'The best <b>buyers</b>', 'revenue', 20000)",
        "insert into audience.members select 'vip', 'email_tool', 'treated' from range(70)",
        "insert into audience.members select 'vip', 'email_tool', 'holdout' from range(7)",
        "insert into audience.waterfall select 'vip', 'email_tool', 'consent_unknown', 8 from range(23)",
        "insert into audience.changes values ('vip', 'email_tool', 'a1', 'entered', 'newly_qualifies')",
        "insert into segment.account_segments select 'a' || i, 'rfm', 'loyal', i < 5 from range(9) as r (i)",
        "insert into identity.account_links select 'shop_orders', i, 'a1' from range(61) as r (i)",
        "insert into release.gate_results values ('staging', 'few_rows_are_refused', 'warn', 'at most 0.5', 0.75,"
        " 'pos_tickets', false, null), ('staging', 'all_is_well', 'stop', '0', 0, '', true, null)",
    )


def test_figures_stand_in_the_page(page: str) -> None:
    text = words(page)
    for sentence in (
        "Judged as of 14/07/2020",
        "Rows 123 500",
        "In quarantine 1 235 1,0 % of the rows",
        "Accounts 9 3 on both channels",
        "Tickets identified 37,5 % of 8 till tickets",
        "Counted revenue 1 699,00 € of 1 734,50 € delivered",
        "Largest gap in the books 1,00 € in 2 days of a channel",
        "built 15/07/2020 00:30 UTC · the first",
        "overdue since 31/01/2021: nobody is kept",
        "email_tool 100 70 7 1 0 consent unknown 23",
        "pos_tickets sold at unreadable 1 235 1,0 % 1 345,60 €",
        "store return of online order 1 −12,30 €",
        "2 online orders returned in a shop were not refunded in time : 345,60 € in all, the oldest for 31 days",
        "few rows are refused pos_tickets at most 0,5 0,75 warned",
        "The largest account holds 61 records.",
    ):
        assert sentence in text, sentence


def test_what_others_wrote_is_escaped(page: str) -> None:
    assert "The best &lt;b&gt;buyers&lt;/b&gt;" in page


def test_the_page_needs_no_network_and_no_script(page: str) -> None:
    assert "<script" not in page
    addresses = set(re.findall(r"https?://[^\"' <>)]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not re.findall(r"\b(?:src|href)=", page.replace("xlink:href=", ""))


def test_charts_take_the_colours_of_the_page(page: str) -> None:
    assert page.count("<svg") == 6
    assert not re.search(r"#0[ac]0[bd]\d\d\b", page)
    assert 'fill="var(--series-1)"' in page


def test_the_page_of_an_empty_release_is_whole(tmp_path: Path) -> None:
    page = build(tmp_path)
    text = words(page)
    assert "Tickets identified – of 0 till tickets" in text
    assert "Nothing to show yet." in text
    assert "No row was refused." in text
    assert "<svg" not in page


def test_the_same_release_gives_the_same_page(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    row = "insert into account.reconciliation values ('online', '2020-06-03', 1, 1, 0)"
    assert build(tmp_path / "one", row) == build(tmp_path / "two", row)


def test_numbers_are_written_in_french() -> None:
    formats = Formats("EUR")
    plain = {"\u202f": " ", "\u00a0": " "}

    def written(text: str) -> str:
        return "".join(plain.get(letter, letter) for letter in text)

    assert written(formats.money(Decimal("1234.50"))) == "1 234,50 €"
    assert written(formats.money(Decimal("-1234567.8"))) == "−1 234 567,80 €"
    assert written(Formats("GBP").money(Decimal(2))) == "2,00 £"
    assert written(formats.number(1234567)) == "1 234 567"
    assert written(formats.share(0.1234)) == "12,3 %"
    assert [written(formats.share(value)) for value in (0.0, 0.0004)] == ["0,0 %", "< 0,1 %"]
    assert formats.day(date(2020, 7, 15)) == "15/07/2020"
    assert formats.moment(datetime(2020, 7, 15, 0, 30)) == "15/07/2020 00:30"
    assert [formats.number(None), formats.share(None), formats.day(None)] == ["–", "–", "–"]
    assert [formats.measure(value) for value in (0.0, 0.25, 12.0, None)] == ["0", "0,25", "12", "–"]


def test_no_two_reasons_share_a_colour() -> None:
    """With more reasons than colours the rare ones are told together; the waterfall of each audience has them all."""
    rows = [
        {"audience": "vip", "destination": "email_tool", "outcome": f"reason {number}", "account_count": 100 - number}
        for number in range(20)
    ]
    drawn = str(charts._svg(charts._outcomes(rows)))
    told = [reason for reason in (*(row["outcome"] for row in rows), "another reason") if f">{reason}</text>" in drawn]
    assert told == [*(f"reason {number}" for number in range(7)), "another reason"]
