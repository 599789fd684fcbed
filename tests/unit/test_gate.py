"""A suite is judged as its statements say, and what it found is kept in words."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from dagster_project.quality import gate
from dagster_project.quality.statements import Judgement, Statement, Suite
from dagster_project.quality.suites import account, activation, audience, identity, landing, release, segment, staging
from dagster_project.settings import Settings
from dagster_project.stages import STAGES
from dagster_project.transform import read_variables


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


def values(*pairs: tuple[str, float | None]) -> str:
    rows = ", ".join(f"('{scope}', {'null' if value is None else value}::double)" for scope, value in pairs)
    return f"select * from (values {rows}) as measures (scope, observed)"


NOTHING = "select 'all', 1 where false"


def judged(connection: duckdb.DuckDBPyConnection, *statements: Statement, **accepted: str) -> list[Judgement]:
    suite = Suite("landing", "landing.files", statements)
    return gate.judge(connection, suite, {name.replace("__", "."): because for name, because in accepted.items()})


def test_every_observed_number_must_lie_between_the_bounds(connection: duckdb.DuckDBPyConnection) -> None:
    found = judged(
        connection,
        Statement("within", values(("a", 1), ("b", 2)), "Rest.", least=1, most=2),
        Statement("above", values(("a", 1), ("b", 2.5), ("c", 9)), "Look.", most=2),
        Statement("below", values(("a", 1), ("b", 0.5)), "Look.", least=1),
        Statement("around", values(("a", -3), ("b", 0)), "Look.", least=0, most=0),
    )
    assert [(j.is_passed, j.observed, j.failed_scopes, j.scope_count) for j in found] == [
        (True, 1, (), 2),
        (False, 9, ("b", "c"), 3),
        (False, 0.5, ("b",), 2),
        (False, -3, ("a",), 2),
    ]


def test_what_measures_nothing_holds(connection: duckdb.DuckDBPyConnection) -> None:
    """A feed that is absent, a first night without a history."""
    found = judged(
        connection,
        Statement("no_rows", NOTHING, "Look.", most=0),
        Statement("no_number", values(("all", None)), "Look.", most=0),
        Statement("broken", values(("all", 1)), "Look.", most=0),
    )
    assert [(j.is_passed, j.observed) for j in found] == [(True, None), (True, None), (False, 1)]


def test_a_finding_says_where_what_was_expected_and_what_to_do(connection: duckdb.DuckDBPyConnection) -> None:
    (found,) = judged(
        connection, Statement("rows_came", values(("tickets of 2020-07-10", 0.03)), "Ask again.", least=0.1)
    )
    assert found.sentence == (
        "landing.rows_came: found 0.03, expected at least 0.1 (tickets of 2020-07-10). Ask again."
    )


def test_at_most_ten_scopes_are_named(connection: duckdb.DuckDBPyConnection) -> None:
    (found,) = judged(connection, Statement("full", values(*((f"f{n:02d}", 1) for n in range(30))), "Look.", most=0))
    assert found.failed_scopes == tuple(f"f{n:02d}" for n in range(10))


def test_a_gate_or_one_statement_of_it_is_accepted_and_what_protects_people_is_not(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    few = Statement("few", values(("all", 1)), "Look.", most=0)
    odd = Statement("odd", values(("all", 1)), "Look.", most=0)
    lawful = Statement("lawful", values(("all", 1)), "Look.", most=0, is_acceptable=False)
    whole = judged(connection, few, odd, lawful, landing="we know")
    assert [(j.is_stopping, j.because) for j in whole] == [(False, "we know"), (False, "we know"), (True, None)]
    one = judged(connection, few, odd, landing__few="only this")
    assert [(j.is_stopping, j.because) for j in one] == [(False, "only this"), (True, None)]
    assert all(j.is_stopping for j in judged(connection, few, odd, lawful, staging="another gate"))
    # A reason for what held is not kept: nothing was accepted.
    (held,) = judged(connection, Statement("fine", values(("all", 0)), "Rest.", most=0), landing="just in case")
    assert held.because is None


def test_a_warning_never_stops(connection: duckdb.DuckDBPyConnection) -> None:
    (found,) = judged(connection, Statement("odd", values(("all", 1)), "Look.", most=0, severity="warn"))
    assert (found.is_passed, found.is_stopping) == (False, False)


def test_what_was_found_replaces_what_the_gate_said_before(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute("create schema release")
    gate.create_results_table(connection)
    for number in (1, 0):
        gate.keep(connection, "landing", judged(connection, Statement("few", values(("all", number)), "Look.", most=0)))
    gate.keep(connection, "staging", judged(connection, Statement("odd", NOTHING, "Look.", most=0)))
    rows = connection.execute(
        "select gate, statement, is_passed, observed from release.gate_results order by 1"
    ).fetchall()
    assert rows == [("landing", "few", True, 0), ("staging", "odd", True, None)]


def every_suite() -> list[Suite]:
    settings = Settings(home=Path("home"))
    return [
        landing.suite(settings),
        staging.suite(settings),
        identity.suite(True),
        account.suite(),
        segment.suite(),
        audience.suite(True, read_variables()),
        activation.suite(),
        release.suite(),
    ]


def test_there_is_a_gate_for_every_stage_and_each_statement_is_bounded_and_gives_advice() -> None:
    assert tuple(suite.stage for suite in every_suite()) == STAGES
    for suite in every_suite():
        names = [statement.name for statement in suite.statements]
        assert len(set(names)) == len(names)
        assert suite.asset.split(".")[0] == suite.stage
        assert any(statement.severity == "stop" for statement in suite.statements)
        for statement in suite.statements:
            assert statement.least is not None or statement.most is not None
            assert statement.advice.endswith((".", "»."))
            assert len(statement.advice.split()) > 5


def test_who_may_be_contacted_and_what_is_sent_can_never_be_accepted() -> None:
    lawful = {
        f"{suite.stage}.{statement.name}"
        for suite in every_suite()
        for statement in suite.statements
        if statement.severity == "stop" and not statement.is_acceptable
    }
    assert {f"activation.{s.name}" for s in activation.suite().statements} <= lawful
    assert {f"release.{s.name}" for s in release.suite().statements} <= lawful
    assert {
        "audience.nobody_is_contacted_without_consent",
        "audience.every_member_has_a_permitted_identifier",
        "audience.nobody_who_asked_for_erasure_is_in",
        "audience.nobody_who_objected_is_in_unless_they_agreed_again",
        "audience.nobody_in_a_marketing_audience_is_too_young",
        "audience.nobody_who_refused_profiling_is_in_an_audience_built_on_it",
        "audience.nobody_gets_the_messages_of_two_audiences",
        "audience.no_third_party_gets_too_few_people",
        "audience.qualified_is_kept_plus_excluded",
        "account.the_books_balance",
        "identity.each_record_has_one_account",
    } <= lawful
