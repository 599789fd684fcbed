"""The sheet that a steward fills in, and what becomes of it."""

import csv
import stat
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dagster_project.domain.contract import feeds
from dagster_project.domain.identity import resolve
from dagster_project.domain.identity.model import COMPARISONS
from dagster_project.domain.identity.review import (
    CONTRACT_COLUMNS,
    EYE_COLUMNS,
    Decision,
    DecisionError,
    checked,
    decision_id,
    deliver,
    delivered_decisions,
    known_records,
    read_sheet,
    revoked,
    stamp,
    useful_pairs,
    write_sheet,
)
from dagster_project.domain.landing.deliveries import Delivery
from dagster_project.domain.landing.reader import read_file

DAY = date(2020, 7, 10)
NOW = datetime(2026, 1, 5, 9, 30, tzinfo=UTC)
THRESHOLD = 3.0
RECORDS = {("shop_customers", f"C{n}") for n in range(1, 8)}


def customer(number: int, **said: Any) -> dict[str, Any]:
    """Somebody whom nothing joins to the others."""
    return {
        "customer_id": f"C{number}",
        "created_at": "2019-01-01",
        "updated_at": "2019-01-01",
        "email": f"person{number}@mail.example",
        "phone": f"+3363998000{number}",
        "first_name": ("Camille", "Odile", "Pierre", "Yasmine", "Bruno", "Solange")[number - 1],
        "last_name": ("Zimmerlin", "Abadie", "Kowalczyk", "Benhaddou", "Quesnel", "Vasseur")[number - 1],
        **said,
    }


@pytest.fixture
def release(staging_database):
    """A release in memory: accounts of six people, and the pairs given as (left, right, decision, reason, weight)."""

    def build(*pairs: tuple, revenue: dict[str, int] | None = None, members: tuple[str, ...] = (), **levels: int):
        connection = staging_database({"shop_customers": [customer(n) for n in range(1, 7)]})
        resolve(connection, as_of=DAY, run_id="run", previous=None)
        account = dict(connection.execute("select record_id, account_id from identity.account_links").fetchall())
        assert len(set(account.values())) == 6
        connection.execute("delete from remembered.edges")
        for left, right, decision, reason, weight in pairs:
            connection.execute(
                """
                insert into remembered.edges by name
                select 'shop_customers' as left_feed, $1 as left_record_id, 'shop_customers' as right_feed,
                    $2 as right_record_id, if($3 = 'decided', 'decision', 'similarity') as rule,
                    if($3 = 'decided', 'refused', $3) as decision, $4 as reason, $5 as weight, 'one town' as evidence,
                    0 as gamma_given_name, 0 as gamma_birth_date
                """,
                [left, right, decision, reason, weight],
            )
        connection.execute("create schema account; create schema audience")
        connection.execute("create table account.accounts (account_id varchar, counted_amount decimal(18, 2))")
        connection.execute("create table audience.members (audience varchar, account_id varchar)")
        for record, amount in (revenue or {}).items():
            connection.execute("insert into account.accounts values (?, ?)", [account[record], amount])
        for record in members:
            connection.execute("insert into audience.members values ('vip', ?)", [account[record]])
        return connection

    return build


def shown(connection: duckdb.DuckDBPyConnection, **asked: Any) -> list[dict[str, Any]]:
    asked = {"accept_weight": THRESHOLD, "most": 10, **asked}
    return useful_pairs(connection, analysts="memory", restricted="memory", **asked)


def records(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(row["left_id"], row["right_id"]) for row in rows]


UNDECIDED = ("undecided", "too_little_evidence")


def test_the_nearer_to_the_threshold_and_the_more_at_stake_the_earlier_a_pair_is_shown(release) -> None:
    connection = release(
        ("C1", "C2", *UNDECIDED, -1.0),
        ("C3", "C4", *UNDECIDED, 2.9),
        ("C5", "C6", *UNDECIDED, -1.0),
        revenue={"C5": 300},
    )
    assert records(shown(connection)) == [("C5", "C6"), ("C3", "C4"), ("C1", "C2")]
    assert records(shown(connection, most=1)) == [("C5", "C6")]
    assert [row["usefulness"] for row in shown(connection)] == ["75.25", "0.97", "0.25"]
    assert shown(connection) == shown(connection)


def test_a_member_of_an_audience_is_at_stake_and_more_returns_than_purchases_are_not(release) -> None:
    connection = release(
        ("C1", "C2", *UNDECIDED, 1.0), ("C3", "C4", *UNDECIDED, 1.0), revenue={"C1": -80}, members=("C4",)
    )
    first, second = shown(connection)
    assert (first["left_id"], first["stake"], first["in_audience"]) == ("C3", "101.00", "yes")
    assert (second["left_id"], second["stake"], second["in_audience"]) == ("C1", "1.00", "no")


def test_what_a_guard_refused_is_shown_whatever_its_weight_with_the_reason_in_words(release) -> None:
    connection = release(
        ("C1", "C2", "refused", "could_be_two_people", 40.0),
        ("C3", "C4", "refused", "weak_bridge", 4.0),
        ("C5", "C6", "refused", "conflict_inside", 4.0),
    )
    rows = shown(connection)
    assert len(rows) == 3
    assert rows[0]["refusal"] == "one of them fits two people who exclude each other"


def test_nobody_is_asked_about_a_couple_or_about_what_the_machine_joined(release) -> None:
    connection = release(
        ("C1", "C2", "refused", "given_name", 15.0),
        ("C3", "C4", "accepted", None, 12.0),
        ("C5", "C6", "refused", "household_only", 12.0),
    )
    assert shown(connection) == []
    # Two given names and one birth date: twins, or one person by two names.
    (dates,) = (each for each in COMPARISONS if each.name == "birth_date")
    connection.execute("update remembered.edges set gamma_birth_date = ?", [dates.gamma("exact")])
    assert records(shown(connection)) == [("C1", "C2")]


def test_a_pair_of_accounts_is_shown_once(release) -> None:
    connection = release(("C1", "C2", *UNDECIDED, 0.0), ("C2", "C1", *UNDECIDED, 2.0))
    assert records(shown(connection)) == [("C2", "C1")]


def test_a_pair_that_a_steward_has_decided_does_not_come_back(release) -> None:
    connection = release(
        ("C1", "C2", *UNDECIDED, 2.0),
        ("C1", "C2", "decided", "declared_different", None),
        ("C3", "C4", *UNDECIDED, 2.0),
    )
    assert records(shown(connection)) == [("C3", "C4")]
    since = [("shop_customers", "C4", "shop_customers", "C3")]
    assert shown(connection, decided=since) == []


def test_a_key_that_a_spreadsheet_would_calculate_is_left_out(release) -> None:
    connection = release(("C1", "=C2", *UNDECIDED, 2.0))
    assert shown(connection) == []


def test_the_number_of_a_decision_does_not_depend_on_which_record_comes_first() -> None:
    one, other = ("shop_customers", "C1"), ("loyalty_members", "K1")
    assert decision_id(one, other) == decision_id(other, one)
    assert decision_id(one, other) != decision_id(one, ("loyalty_members", "K2"))


@pytest.fixture
def sheet(release, tmp_path) -> Path:
    path = tmp_path / "sheet.csv"
    write_sheet(path, shown(release(("C1", "C2", *UNDECIDED, 2.0), ("C3", "C4", *UNDECIDED, -1.0))))
    return path


def test_the_sheet_begins_with_the_contract_and_only_its_owner_reads_it(sheet) -> None:
    assert sheet.read_bytes().startswith(b"\xef\xbb\xbf")
    assert stat.S_IMODE(sheet.stat().st_mode) == 0o600
    header, first, second = csv.reader(sheet.read_text(encoding="utf-8-sig").splitlines())
    assert tuple(header) == (*CONTRACT_COLUMNS, *EYE_COLUMNS)
    row = dict(zip(header, first, strict=True))
    assert row["decision_id"] == decision_id(("shop_customers", "C1"), ("shop_customers", "C2"))
    assert {row[name] for name in ("decision", "decided_by", "decided_at", "reason", "revoked_at")} == {""}
    assert row["left_name"] == "Camille Zimmerlin"
    # A phone and a negative weight begin as formulas do.
    assert row["left_phone"].startswith("'+")
    assert dict(zip(header, second, strict=True))["weight"] == "'-1.0"


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@sum", "\t=1", "\r=1"])
def test_no_cell_for_the_eye_is_a_formula(text, tmp_path) -> None:
    write_sheet(tmp_path / "sheet.csv", [{"left_name": text, "right_address": text}])
    with (tmp_path / "sheet.csv").open(encoding="utf-8-sig", newline="") as source:
        (row,) = csv.DictReader(source)
    assert row["left_name"] == row["right_address"] == "'" + text


def test_a_sheet_that_may_be_filled_in_is_not_written_over(sheet) -> None:
    before = sheet.read_bytes()
    with pytest.raises(FileExistsError):
        write_sheet(sheet, [])
    assert sheet.read_bytes() == before


def test_landing_does_not_load_the_columns_for_the_eye(sheet, tmp_path) -> None:
    """Who drops the sheet itself into landing leaks nothing: only the contract's columns become raw."""
    raw = tmp_path / "raw"
    raw.mkdir()
    found = Delivery("identity_decisions", "sheet.csv", DAY, 0, 0)
    with duckdb.connect() as connection:
        read = read_file(connection, found, sheet, feeds()["identity_decisions"], raw)
        (path,) = raw.rglob("*.parquet")
        columns = {row[0] for row in connection.execute(f"describe from '{path}'").fetchall()}
    assert columns == {*CONTRACT_COLUMNS, "line", "_rule", "_text"}
    assert set(read.unknown_columns.split(", ")) == set(EYE_COLUMNS)
    assert read.rejected_row_count == 0


def fill(sheet: Path, *decisions: str, delimiter: str = ",", encoding: str = "utf-8-sig") -> Path:
    """The sheet with that in the column decision, row by row, as a spreadsheet saves it."""
    with sheet.open(encoding="utf-8-sig", newline="") as source:
        rows = list(csv.DictReader(source))
    with sheet.open("w", encoding=encoding, newline="") as out:
        writer = csv.DictWriter(out, rows[0], delimiter=delimiter)
        writer.writeheader()
        for row, decision in zip(rows, decisions, strict=True):
            writer.writerow({**row, "decision": decision, "left_name": "Éloïse"})
    return sheet


@pytest.mark.parametrize(("delimiter", "encoding"), [(",", "utf-8-sig"), (";", "cp1252"), ("\t", "utf-8")])
def test_a_sheet_is_read_as_spreadsheets_save_it_and_open_rows_are_counted(sheet, delimiter, encoding) -> None:
    (found,), empty = read_sheet(fill(sheet, "", " Same ", delimiter=delimiter, encoding=encoding))
    assert (found.line, found.decision, found.left_id, found.right_id) == (3, "same", "C3", "C4")
    assert empty == 1


def test_what_is_no_sheet_is_told_by_the_columns_that_it_lacks(tmp_path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("name,decision\nx,same\n")
    with pytest.raises(DecisionError, match="does not name the columns decision_id, left_feed"):
        read_sheet(path)


def a_decision(left: str = "C1", right: str = "C2", verdict: str = "same", line: int = 2, **said: Any) -> Decision:
    number = decision_id(("shop_customers", left), ("shop_customers", right))
    return Decision(
        **{
            "decision_id": number,
            "left_feed": "shop_customers",
            "left_id": left,
            "right_feed": "shop_customers",
            "right_id": right,
            "decision": verdict,
            "decided_by": "steward-1",
            "decided_at": "",
            "line": line,
            **said,
        }
    )


def check(*decisions: Decision, by: str | None = None, delivered: dict[str, Decision] | None = None):
    return checked(decisions, known_records=RECORDS, delivered=delivered or {}, delivered_on=DAY, now=NOW, by=by)


def test_who_and_when_are_filled_in_and_no_moment_lies_after_the_day_of_delivery() -> None:
    (found,), _ = check(a_decision(decided_by=""), by="steward-2")
    assert (found.decided_by, found.decided_at) == ("steward-2", "2020-07-10T23:59:59Z")
    assert stamp(datetime(2020, 7, 10, 8, tzinfo=UTC), DAY) == datetime(2020, 7, 10, 8, tzinfo=UTC)
    (found,), _ = check(a_decision(decided_at="09/07/2020 8:05"))
    assert found.decided_at == "2020-07-09T06:05:00Z"
    (found,), _ = check(a_decision(decided_at="2020-07-09T08:05:00+02:00"))
    assert found.decided_at == "2020-07-09T06:05:00Z"


@pytest.mark.parametrize(
    ("decision", "sentence"),
    [
        (a_decision(verdict="maybe"), "line 2, column decision: «maybe» is neither same nor different"),
        (a_decision(right="C99"), "line 2, column right_id: the release knows no record C99"),
        (a_decision(right="C1"), "line 2, column right_id: a record is compared with itself"),
        (a_decision(decided_by=""), "line 2, column decided_by: nobody is named"),
        (a_decision(decided_at="soon"), "line 2, column decided_at: is not a moment"),
        (a_decision(decided_at="2020-07-11"), "line 2, column decided_at: lies after the day of delivery"),
        (a_decision(decision_id=""), "line 2, column decision_id: is empty"),
        (a_decision(reason="wrote from camille@mail.example"), "line 2, column reason: holds an e-mail address"),
        (a_decision(reason="called 06 39 98 00 01"), "line 2, column reason: holds an e-mail address or a phone"),
    ],
)
def test_what_is_wrong_is_told_by_line_and_column_without_the_values(decision, sentence) -> None:
    if "T" not in decision.decided_at and decision.decided_at.startswith("2020"):
        decision = replace(decision, decided_at="2020-07-11T02:00:00Z")
    with pytest.raises(DecisionError) as caught:
        check(decision)
    assert sentence in str(caught.value)
    assert "camille@" not in str(caught.value)
    assert "06 39" not in str(caught.value)


def test_a_date_and_a_card_number_in_the_reason_are_no_phone() -> None:
    check(a_decision(reason="same card 2900000028 since 09/07/2020, 2020-07-09"))


@pytest.mark.parametrize(
    ("decisions", "sentence"),
    [
        (
            [a_decision(), a_decision("C2", "C1", "different", line=5)],
            "line 5, column decision: says different, line 2 says same of the same two records",
        ),
        (
            [a_decision(), a_decision("C3", "C4", line=3, decision_id=a_decision().decision_id)],
            "line 3, column decision_id: line 2 has the same number for other records",
        ),
        (
            [a_decision(), a_decision("C2", "C3", line=3), a_decision("C1", "C3", "different", line=4)],
            "line 4, column decision: says different, but other lines, taken together",
        ),
    ],
)
def test_a_sheet_that_contradicts_itself_is_not_delivered(decisions, sentence) -> None:
    with pytest.raises(DecisionError, match=sentence):
        check(*decisions)


def test_what_was_delivered_before_is_not_delivered_again_unless_it_changed() -> None:
    before = replace(a_decision(), delivered_on=DAY, file="x")
    known = {before.decision_id: before}
    assert check(a_decision(), delivered=known) == ([], 1)
    (changed,), repeated = check(a_decision(verdict="different"), delivered=known)
    assert (changed.decision, repeated) == ("different", 0)
    again, _ = check(a_decision(), delivered={before.decision_id: replace(before, revoked_at="2020-07-09T00:00:00Z")})
    assert len(again) == 1


def in_landing(home: Path, released: set[tuple[str, str]] = frozenset()) -> dict[str, Decision]:  # type: ignore[assignment]
    scratch = home / "scratch"
    scratch.mkdir(exist_ok=True)
    with duckdb.connect() as connection:
        return delivered_decisions(
            connection,
            landing=home / "landing",
            raw=home / "raw",
            register=home / "raw" / "deliveries",
            released=released,
            scratch=scratch,
        )


def test_a_delivery_holds_the_contract_alone_and_a_revocation_of_the_same_day_counts_after_it(tmp_path) -> None:
    decisions, _ = check(*(a_decision(f"C{n}", f"C{n + 1}", line=n) for n in range(1, 6)))
    path = deliver(decisions, tmp_path / "landing", DAY, {})
    assert path.parent == tmp_path / "landing" / "identity_decisions" / "2020-07-10"
    assert path.read_text().splitlines()[0] == ",".join(CONTRACT_COLUMNS)
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    known = in_landing(tmp_path)
    assert len(known) == 5
    for number in [each.decision_id for each in decisions]:
        taken_back = revoked(number, known, delivered_on=DAY, now=NOW)
        assert taken_back.decision == "same"
        later = deliver([taken_back], tmp_path / "landing", DAY, known)
        assert later.name > path.name
        known = in_landing(tmp_path)
        assert known[number].revoked_at == "2020-07-10T23:59:59Z"
        with pytest.raises(DecisionError, match="is revoked already"):
            revoked(number, known, delivered_on=DAY, now=NOW)
    with pytest.raises(DecisionError, match="No decision R0 was ever delivered"):
        revoked("R0", known, delivered_on=DAY, now=NOW)


def test_a_delivery_that_would_not_count_is_refused(tmp_path, supplier) -> None:
    (decision,), _ = check(a_decision())
    row = {name: getattr(decision, name) for name in CONTRACT_COLUMNS}
    supplier(tmp_path / "landing").deliver("identity_decisions", DAY, [row], "tool.csv")
    known = in_landing(tmp_path)
    with pytest.raises(DecisionError, match=r"tool.csv holds the decision .* name a later day"):
        deliver([decision], tmp_path / "landing", DAY, known)


def test_only_records_of_the_release_are_known(release) -> None:
    connection = release()
    found = known_records(connection, "memory", [a_decision("C1", "C9"), a_decision("C2", "C3")])
    assert found == {("shop_customers", f"C{n}") for n in (1, 2, 3)}
