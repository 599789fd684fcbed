"""Are the measures of a clustering right: against pairs counted one by one, and by hand."""

import json
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dagster_project.cli import app
from dagster_project.domain.identity.evaluation import Estimate, EvaluationError, evaluate, evaluate_release

FEEDS = ("shop_customers", "loyalty_members", "shop_orders")


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(config={"threads": 1}) as connection:
        yield connection


def table(connection: duckdb.DuckDBPyConnection, name: str, columns: str, rows: list[tuple[Any, ...]]) -> None:
    connection.execute(f"create or replace table {name} ({columns.replace(' ', ' varchar, ')} varchar)")
    if rows:
        marks = ", ".join(["unnest(?::varchar[])"] * len(rows[0]))
        connection.execute(f"insert into {name} select {marks}", [list(column) for column in zip(*rows, strict=True)])


def evaluated(connection: duckdb.DuckDBPyConnection, rows: list[tuple[Any, ...]]) -> Any:
    """Evaluate rows of feed, record, person, household, scenario and account."""
    table(connection, "truth", "feed record_id person_id household_id scenario", [row[:5] for row in rows])
    table(connection, "links", "feed record_id account_id", [(*row[:2], row[5]) for row in rows])
    return evaluate(connection, links="links", truth="truth")


def share(part: float, whole: float) -> float | None:
    return part / whole if whole else None


def pairs_one_by_one(rows: list[tuple[Any, ...]], scenario: str | None = None) -> tuple[int, int, int]:
    counts: Counter[tuple[bool, bool]] = Counter()
    for one, other in combinations(rows, 2):
        if scenario is None or scenario in (one[4], other[4]):
            counts[one[2] == other[2], one[5] is not None and one[5] == other[5]] += 1
    return counts[True, True], counts[False, True], counts[True, False]


def bcubed_one_by_one(rows: list[tuple[Any, ...]]) -> tuple[float, float]:
    precision = recall = 0.0
    for one in rows:
        account = [each for each in rows if each is one or (one[5] is not None and each[5] == one[5])]
        person = [each for each in rows if each[2] == one[2]]
        both = [each for each in account if each[2] == one[2]]
        precision += len(both) / len(account)
        recall += len(both) / len(person)
    return precision / len(rows), recall / len(rows)


def assert_pairs(pairs: Any, counts: tuple[int, int, int]) -> None:
    right, false, missed = counts
    assert (pairs.true_positives, pairs.false_positives, pairs.false_negatives) == counts
    assert pairs.precision.value == pytest.approx(share(right, right + false))
    assert pairs.recall.value == pytest.approx(share(right, right + missed))
    assert pairs.f1.value == pytest.approx(share(2 * right, 2 * right + false + missed))


def estimates(found: Any) -> list[Estimate]:
    """Every estimate in an evaluation, however deep."""
    if isinstance(found, Estimate):
        return [found]
    inside = found.values() if isinstance(found, dict) else getattr(found, "__dict__", {}).values()
    return [estimate for each in inside for estimate in estimates(each)]


LABELS = st.lists(
    st.tuples(
        st.sampled_from(FEEDS),
        st.sampled_from("PQRST"),
        st.sampled_from([None, "H1", "H2"]),
        st.sampled_from([None, "twins", "family"]),
        st.sampled_from([None, "A", "B", "C", "D"]),
    ),
    min_size=1,
    max_size=14,
)


@settings(max_examples=50, deadline=None)
@given(labels=LABELS)
def test_every_measure_is_that_of_pairs_counted_one_by_one(labels: list[tuple[Any, ...]]) -> None:
    rows = [(feed, f"R{number}", *rest) for number, (feed, *rest) in enumerate(labels)]
    with duckdb.connect(config={"threads": 1}) as connection:
        found = evaluated(connection, rows)
    people = [row for row in rows if row[0] != "shop_orders"]
    assert (found.people is None) == (not people)
    for clustering, records in ((found.people, people), (found.all_records, rows)):
        if clustering:
            assert_pairs(clustering.pairs, pairs_one_by_one(records))
            precision, recall = bcubed_one_by_one(records)
            assert clustering.bcubed_precision.value == pytest.approx(precision)
            assert clustering.bcubed_recall.value == pytest.approx(recall)
            assert clustering.bcubed_f1.value == pytest.approx(2 * precision * recall / (precision + recall))
            assert clustering.records == len(records)
            assert clustering.persons == len({row[2] for row in records})
            assert clustering.largest_person == max(Counter(row[2] for row in records).values())
            accounts = Counter(row[5] or row[1] for row in records)
            assert (clustering.accounts, clustering.largest_account) == (len(accounts), max(accounts.values()))
    assert set(found.scenarios) == {row[4] for row in rows} - {None}
    for name, scenario in found.scenarios.items():
        assert scenario.records == sum(row[4] == name for row in rows)
        assert_pairs(scenario.pairs, pairs_one_by_one(rows, name))
    accounts_of = {row[2]: {each[5] or each[1] for each in people if each[2] == row[2]} for row in people}
    homes = {(row[3], row[2]): accounts_of[row[2]] for row in people if row[3]}
    neighbours = [(one, other) for one, other in combinations(homes, 2) if one[0] == other[0]]
    if neighbours:
        assert found.households.pairs == len(neighbours)
        assert found.households.merged == sum(bool(homes[one] & homes[other]) for one, other in neighbours)
    else:
        assert found.households is None
    for estimate in estimates(found):
        if estimate.value is not None:
            assert 0 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_two_of_a_household_of_three_in_one_account_are_one_pair_of_three(connection) -> None:
    found = evaluated(
        connection,
        [
            ("shop_customers", "C1", "Ana", "H1", None, "A"),
            ("loyalty_members", "K1", "Ana", "H1", None, "B"),
            ("shop_customers", "C2", "Bob", "H1", None, "A"),
            ("loyalty_members", "K2", "Bob", "H1", None, "B"),
            ("shop_customers", "C3", "Cleo", "H1", None, "C"),
            ("shop_customers", "C4", "Dan", "H2", None, "C"),
            # Somebody without a people record is no pair of anybody, whatever his order says.
            ("shop_orders", "W1", "Eve", "H1", None, "A"),
        ],
    )
    assert (found.households.households, found.households.pairs, found.households.merged) == (1, 3, 1)
    assert found.households.merged_share.value == pytest.approx(1 / 3)


def test_people_records_are_judged_without_the_guest_orders(connection) -> None:
    found = evaluated(
        connection,
        [
            ("shop_customers", "C1", "Ana", None, None, "A"),
            ("loyalty_members", "K1", "Ana", None, None, "A"),
            ("shop_orders", "W1", "Bob", None, None, "A"),
        ],
    )
    assert found.people.pairs.precision.value == 1
    assert found.all_records.pairs.precision.value == pytest.approx(1 / 3)


def test_a_record_of_no_person_of_its_own_counts_only_where_it_founds_an_account(connection) -> None:
    table(connection, "truth", "feed record_id person", [("shop_customers", "C1", "Ana"), ("shop_orders", "W1", "Ana")])
    links = "select 'shop_customers' as feed, 'C1' as record_id, 'A' as account_id, true as is_person_record"
    links += " union all select 'shop_orders', 'W1', 'A', false"
    found = evaluate(connection, links=links, truth="truth")
    assert found.all_records.records == 1
    assert found.attribution.right == 1


ANA_AND_BOB = [
    ("shop_customers", "C1", "Ana", None, None),
    ("loyalty_members", "K1", "Ana", None, None),
    ("loyalty_members", "K2", "Bob", None, None),
    ("shop_customers", "C3", "Cleo", None, None),
    ("shop_customers", "C4", "Bob", None, None),
    ("pos_tickets", "T1", "Ana", None, "own_card"),
    ("pos_tickets", "T2", "Ana", None, "borrowed_card"),
    ("pos_tickets", "T3", "Bob", None, "shared_bank_card"),
    ("pos_tickets", "T4", "Bob", None, None),
    ("shop_orders", "W1", "Cleo", None, None),
    ("shop_orders", "W2", "Dan", None, None),
    ("shop_orders", "W3", "Eve", None, None),
    ("shop_orders", "W4", "Eve", None, None),
    ("pos_tickets", "T9", "Ana", None, None),
]


def test_a_transaction_is_right_with_the_owner_of_the_key_or_the_buyer(connection) -> None:
    """A is Ana's (two records of three), B is Bob's by the tie of one each, D is Eve's by two orders of three."""
    table(connection, "truth", "feed record_id person_id household_id scenario", ANA_AND_BOB)
    table(
        connection,
        "links",
        "feed record_id account_id",
        [
            ("shop_customers", "C1", "A"),
            ("loyalty_members", "K1", "A"),
            ("loyalty_members", "K2", "A"),
            ("shop_customers", "C3", "B"),
            ("shop_customers", "C4", "B"),
        ],
    )
    table(
        connection,
        "booked",
        "feed record_id account_id channel rule",
        [
            ("pos_tickets", "T1", "A", "store", "card"),
            ("pos_tickets", "T2", "B", "store", "card"),  # Ana's card, in the hand of Bob
            ("pos_tickets", "T3", "A", "store", "payment_token"),
            ("pos_tickets", "T4", None, "store", None),
            ("shop_orders", "W1", "B", "online", "customer_id"),  # Bob's by the tie, so not Cleo's
            ("shop_orders", "W2", "D", "online", "email"),
            ("shop_orders", "W3", "D", "online", "email"),
            ("shop_orders", "W4", "D", "online", "email"),
            ("shop_orders", "W5", "A", "online", "email"),  # nobody knows whose
        ],
    )
    table(
        connection,
        "buyers",
        "feed record_id person_id key_owner_person_id",
        [("pos_tickets", "T2", "Bob", "Ana"), ("pos_tickets", "T1", "Ana", None)],
    )
    found = evaluate(connection, links="links", truth="truth", transactions="buyers", booked="booked")

    def counts(of: Any) -> tuple[int, int, int]:
        assert of.transactions == of.right + of.wrong + of.none
        assert of.right_share.value == of.right / of.transactions
        return of.right, of.wrong, of.none

    assert counts(found.attribution) == (4, 3, 1)
    assert {name: counts(of) for name, of in found.attribution_by_channel.items()} == {
        "store": (2, 1, 1),
        "online": (2, 2, 0),
    }
    assert {name: counts(of) for name, of in found.attribution_by_rule.items()} == {
        "card": (2, 0, 0),
        "payment_token": (0, 1, 0),
        "anonymous": (0, 0, 1),
        "customer_id": (0, 1, 0),
        "email": (2, 1, 0),
    }
    assert {name: counts(of.attribution) for name, of in found.scenarios.items()} == {
        "own_card": (1, 0, 0),
        "borrowed_card": (1, 0, 0),
        "shared_bank_card": (0, 1, 0),
    }
    assert found.missing_transactions == 1
    without_buyers = evaluate(connection, links="links", truth="truth", booked="booked")
    assert counts(without_buyers.scenarios["borrowed_card"].attribution) == (0, 1, 0)


def test_a_bare_clustering_books_its_own_tickets(connection) -> None:
    table(connection, "truth", "feed record_id person_id household_id scenario", ANA_AND_BOB)
    rows = [("shop_customers", "C1", "A"), ("pos_tickets", "T1", "A"), ("pos_tickets", "T2", None)]
    table(connection, "links", "feed record_id account_id", rows)
    found = evaluate(connection, links="links", truth="truth")
    assert list(found.attribution_by_channel) == ["store"]
    assert (found.attribution.right, found.attribution.none) == (1, 4)
    assert found.missing_records == 4


def test_the_same_tables_give_the_same_intervals_and_more_people_narrower_ones(connection) -> None:
    def found(persons: int) -> Any:
        rows = [
            (
                "shop_customers",
                f"{person}-{number}",
                f"P{person}",
                None,
                None,
                f"A{person}-{number * (person % 3 == 0)}",
            )
            for person in range(persons)
            for number in range(2)
        ]
        return evaluated(connection, rows).people.pairs

    few, many = found(30), found(3000)
    assert found(30) == few
    assert few.recall.value == many.recall.value == pytest.approx(2 / 3)
    assert 0.2 < few.recall.high - few.recall.low < 0.5
    # By theory 2 × 1,96 × sqrt(2/9 / 3000) = 0,034.
    assert many.recall.high - many.recall.low == pytest.approx(0.034, rel=0.2)
    # Nothing wrong among few is less than nothing wrong among many.
    assert few.precision.value == many.precision.value == 1
    assert few.precision.low < many.precision.low < 1


def test_a_single_person_says_little(connection) -> None:
    rows = [("shop_customers", f"C{number}", "Ana", None, None, f"A{number // 2}") for number in range(3)]
    recall = evaluated(connection, rows).people.pairs.recall
    assert recall.value == pytest.approx(1 / 3)
    assert recall.high - recall.low > 0.5


def test_errors_of_one_person_make_a_wider_interval_than_as_many_of_different_people(connection) -> None:
    def interval(wrong_by_person: list[int]) -> float:
        customers = [("shop_customers", f"C{person}", f"P{person}", f"A{person}") for person in range(50)]
        tickets = [
            ("pos_tickets", f"T{person}-{number}", f"P{person}", "A49" if number < wrong else f"A{person}")
            for person, wrong in enumerate(wrong_by_person)
            for number in range(10)
        ]
        table(connection, "truth", "feed record_id person_id", [row[:3] for row in customers + tickets])
        table(connection, "links", "feed record_id account_id", [(*row[:2], row[3]) for row in customers + tickets])
        found = evaluate(connection, links="links", truth="truth").attribution
        assert found.wrong == 10
        return found.wrong_share.high - found.wrong_share.low

    assert interval([10] + [0] * 39) > 1.5 * interval([1] * 10 + [0] * 30)


@pytest.mark.parametrize(
    ("truth", "sentence"),
    [
        ("feed,person_id\nshop_customers,Ana\n", "truth.csv has no column record_id."),
        ("record_id,person_id\nC1,Ana\n", "truth.csv has no column feed."),
        ("feed,record_id,who\nshop_customers,C1,Ana\n", "truth.csv has no column person_id (or person)."),
        ("feed,record_id,person_id\n", "truth.csv has no record with feed, record_id and person_id."),
        ("feed,record_id,person\nshop_customers,C9,Ana\n", "None of the 1 labelled records of truth.csv is in"),
        (
            "feed,record_id,person\nshop_customers,C1,Ana\nshop_customers,C2,Ana\nshop_customers,C1,Bob\n",
            "truth.csv gives 1 record(s) to different persons (column person_id): of feed shop_customers, "
            "the first in the rows 1 and 3 after the header.",
        ),
        (None, "There is no file"),
    ],
)
def test_a_truth_that_cannot_be_used_ends_in_a_sentence_and_exit_code_2(
    home: Path, truth: str | None, sentence: str
) -> None:
    if truth is not None:
        (home / "truth.csv").write_text(truth)
    code, text = call(str(home / "truth.csv"), "--home", str(home))
    assert code == 2
    assert sentence in text
    assert "Ana" not in text
    assert "Traceback" not in text


def call(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["identity", "evaluate", *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, " ".join((result.stdout + result.stderr).split())


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with one release, as far as the command reads it."""
    monkeypatch.setenv("COLUMNS", "200")
    release = tmp_path / "releases" / "20200715T003000Z"
    release.mkdir(parents=True)
    (release / "manifest.json").write_text("{}")
    (tmp_path / "releases" / "current").symlink_to(release.name)
    with duckdb.connect(str(release / "cocanal.duckdb")) as connection:
        connection.execute(
            """
            create schema identity;
            create schema account;
            create table identity.account_links as
            select * from (values
                ('shop_customers', 'C1', 'A', 'customer_id', 1.0, true),
                ('loyalty_members', '29e4', 'A', 'card', 1.0, true),
                ('pos_tickets', 'T1', 'A', 'card', 1.0, false)
            ) as t (feed, record_id, account_id, rule, confidence, is_person_record);
            create table account.transactions as
            select * from (values
                ('pos_tickets', 'T1', 'A', 'store', 'card'), ('pos_tickets', 'T2', null, 'store', null)
            ) as t (feed, record_id, account_id, channel, rule)
            """
        )
    return tmp_path


def test_the_truth_in_the_home_is_taken_where_none_is_named(home: Path) -> None:
    code, text = call("--home", str(home))
    assert code == 2
    assert "Name a file of truth" in text
    (home / "truth").mkdir()
    (home / "truth" / "records.csv").write_text(
        "feed,record_id,person_id,scenario\nshop_customers,C1,Ana,usual\nloyalty_members,29e4,Ana,usual\n"
        "pos_tickets,T1,Bob,usual\npos_tickets,T2,Bob,usual\n"
    )
    code, text = call("--home", str(home), "--json", str(home / "found.json"))
    assert code == 0
    assert "Ana" not in text
    found = json.loads((home / "found.json").read_text())
    assert found["release_id"] == "20200715T003000Z"
    assert found["people"]["pairs"]["true_positives"] == 1
    assert (found["attribution"]["wrong"], found["attribution"]["none"]) == (1, 1)
    (home / "truth" / "transactions.csv").write_text(
        "feed,record_id,person_id,key_owner_person_id\npos_tickets,T1,Bob,Ana\npos_tickets,T2,Bob,\n"
    )
    assert call("--home", str(home), "--json", str(home / "found.json"))[0] == 0
    assert json.loads((home / "found.json").read_text())["attribution"]["right"] == 1


def test_a_record_id_that_looks_like_a_number_stays_what_it_is(
    home: Path, connection: duckdb.DuckDBPyConnection
) -> None:
    (home / "truth.csv").write_text("feed;record_id;person\nloyalty_members;29e4;7\n")
    found = evaluate_release(connection, home / "releases" / "current" / "cocanal.duckdb", home / "truth.csv")
    assert (found.people.records, found.missing_records) == (1, 0)


def test_a_file_that_is_none_of_both_is_refused_without_quoting_it(home: Path) -> None:
    (home / "truth.parquet").write_text("feed,record_id,person\nshop_customers,C1,Ana\n")
    code, text = call(str(home / "truth.parquet"), "--home", str(home))
    assert (code, "cannot be read as parquet" in text, "Ana" in text) == (2, True, False)


def test_a_parquet_file_is_a_truth_too(home: Path, connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(
        f"copy (select 'shop_customers' as feed, 'C1' as record_id, 7 as person) to '{home}/truth.parquet'"
    )
    found = evaluate_release(connection, home / "releases" / "current" / "cocanal.duckdb", home / "truth.parquet")
    assert found.people is not None
    assert found.people.records == 1
    assert connection.execute("select count(*) from duckdb_tables()").fetchall() == [(0,)]


def test_without_the_release_that_is_asked_for_there_is_a_sentence(home: Path, tmp_path: Path) -> None:
    (home / "truth.csv").write_text("feed,record_id,person_id\nshop_customers,C1,Ana\n")
    code, text = call(str(home / "truth.csv"), "--home", str(home), "--release", "20200101T000000Z")
    assert (code, "There is no release 20200101T000000Z" in text) == (2, True)
    code, text = call(str(home / "truth.csv"), "--home", str(tmp_path / "elsewhere"))
    assert (code, "There is no release in" in text) == (2, True)
    assert not (tmp_path / "elsewhere").exists()


def test_a_clustering_that_links_a_record_twice_is_refused(connection) -> None:
    table(connection, "truth", "feed record_id person_id", [("shop_customers", "C1", "Ana")])
    table(
        connection, "links", "feed record_id account_id", [("shop_customers", "C1", "A"), ("shop_customers", "C1", "B")]
    )
    with pytest.raises(EvaluationError, match="links links 1 labelled record"):
        evaluate(connection, links="links", truth="truth")
    with pytest.raises(EvaluationError, match="There is no table nowhere"):
        evaluate(connection, links="nowhere", truth="truth")
    with pytest.raises(EvaluationError, match="truth has no column account_id"):
        evaluate(connection, links="truth", truth="truth")
