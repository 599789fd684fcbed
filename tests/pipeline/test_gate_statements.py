"""Every statement that can stop a run bites on the corruption that it is there for, and no other statement does.

Each is tried on the warehouse of a good night, in a transaction that is rolled back: without the walk, so that all of
them can be tried. That a gate stops the walk is shown in ``test_gates_stop_the_line``.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from dagster_project.domain import release as releases
from dagster_project.quality.gate import judge
from dagster_project.quality.statements import Suite
from dagster_project.quality.suites import account, activation, audience, identity, landing, release, segment, staging
from dagster_project.settings import Settings
from dagster_project.transform import read_variables

_TONIGHT = "feed = 'web_events' and delivered_on = (select as_of from landing.builds)"
_A_MEMBER = "select destination, account_id from audience.members order by destination, account_id limit 1"
_KEY_OF_A_MEMBER = f"""
    if(feed = 'shop_customers', 'customer_id', 'card_id') as key_type, record_id as key_value
    from identity.account_links join ({_A_MEMBER}) using (account_id)
    where feed in ('shop_customers', 'loyalty_members')
"""

CORRUPTIONS = {
    "landing.something_was_delivered": "update landing.files set row_count = 0",
    "landing.volume_is_not_a_fraction_of_the_usual": f"update landing.files set row_count = 5 where {_TONIGHT}",
    "landing.rows_could_be_read": f"update landing.files set rejected_row_count = 60 where {_TONIGHT}",
    "staging.quarantine_is_small": f"""
        insert into staging.quarantine by name
        select feed, file, lines.line, 'mandatory_missing' as rule, delivered_on
        from landing.files, range(60) as lines (line) where {_TONIGHT}
        """,
    "staging.no_row_is_lost_or_made_up": """
        update staging.row_counts set current_row_count = current_row_count - 1 where feed = 'stores'
        """,
    "staging.no_amount_is_lost_or_made_up": """
        update staging.row_counts set current_amount = current_amount - 0.01 where feed = 'pos_ticket_lines'
        """,
    "identity.each_record_has_one_account": """
        insert into remembered.account_links by name
        select * replace ((select max(account_id) from identity.account_links) as account_id)
        from identity.account_links where feed = 'shop_orders' order by record_id limit 1
        """,
    "identity.no_person_is_lost": """
        delete from remembered.account_links
        where feed = 'loyalty_members' and record_id = (select min(card_id) from staging.stg_loyalty_members)
        """,
    "identity.no_account_is_a_crowd": """
        insert into remembered.account_links by name
        select 'loyalty_members' as feed, 'X' || people.number as record_id,
            (select min(account_id) from identity.account_links) as account_id, true as is_person_record
        from range(60) as people (number)
        """,
    "identity.ids_stay_with_their_records": "update remembered.account_links set account_id = 'N' || account_id",
    "account.the_books_balance": """
        update account.reconciliation set delivered_amount = delivered_amount + 0.01
        where business_on = (select max(business_on) from account.reconciliation)
        """,
    "account.accounts_and_anonymous_make_the_ledger": """
        update account.accounts set counted_amount = counted_amount - 0.01
        where account_id = (select min(account_id) from account.accounts)
        """,
    "account.every_transaction_is_in_the_ledger_once": """
        update account.transactions
        set record_id = (select max(record_id) from account.transactions where feed = 'shop_orders')
        where transaction_id = (select min(transaction_id) from account.transactions where feed = 'shop_orders')
        """,
    "account.lines_make_their_transactions": """
        delete from account.transaction_lines
        where (transaction_id, line_no) in (
            select transaction_id, line_no from account.transaction_lines where is_counted order by all limit 1
        )
        """,
    "account.nobody_is_lost": """
        insert into remembered.account_links by name
        select 'shop_customers' as feed, 'X' as record_id, 'X' as account_id
        """,
    "segment.each_account_has_one_segment_per_scheme": """
        insert into segment.account_segments
        select * from segment.account_segments where scheme = 'rfm' order by account_id limit 1
        """,
    "segment.shares_stay_near_the_last_release": """
        insert into segment.drift by name select 'rfm' as scheme, 'champions' as segment, 1.5 as index_part
        """,
    "audience.nobody_is_contacted_without_consent": f"""
        insert into audience.contact_points by name
        select 'marketing' as kind, destination, account_id, 'phone' as identifier_type, '+33199000099' as identifier
        from ({_A_MEMBER})
        """,
    "audience.every_member_has_a_permitted_identifier": f"""
        delete from audience.contact_points where (destination, account_id) in ({_A_MEMBER})
        """,
    "audience.nobody_who_asked_for_erasure_is_in": f"""
        insert into staging.stg_privacy_requests by name select 'erasure' as kind, {_KEY_OF_A_MEMBER}
        """,
    "audience.nobody_who_objected_is_in_unless_they_agreed_again": f"""
        insert into staging.stg_privacy_requests by name
        select 'objection' as kind, (select as_of + 2 from landing.builds)::timestamp as received_at, {_KEY_OF_A_MEMBER}
        """,
    "audience.nobody_in_a_marketing_audience_is_too_young": f"""
        update staging.stg_shop_customers set birth_date = date '2010-01-01'
        where customer_id in (select key_value from (select {_KEY_OF_A_MEMBER}) where key_type = 'customer_id')
        """,
    "audience.nobody_who_refused_profiling_is_in_an_audience_built_on_it": """
        update audience.audiences set is_profiling = true;
        insert into staging.stg_consents by name
        select 'email' as key_type, identifiers.identifier as key_value, 'profiling' as purpose, 'any' as channel,
            'withdrawn' as status, (select as_of from landing.builds)::timestamp as occurred_at
        from account.identifiers as identifiers
        semi join audience.members as members using (account_id)
        where identifiers.identifier_type = 'email'
        """,
    "audience.nobody_gets_the_messages_of_two_audiences": """
        update audience.audiences set is_profiling = false;
        insert into audience.candidates by name
        select 'vip' as audience, destination, account_id from audience.members where destination = 'email_tool';
        insert into audience.members by name
        select 'vip' as audience, destination, account_id, arm from audience.members where destination = 'email_tool'
        """,
    "audience.no_third_party_gets_too_few_people": "update audience.destinations set is_third_party = true",
    "audience.qualified_is_kept_plus_excluded": """
        delete from audience.waterfall where account_id = (select min(account_id) from audience.waterfall)
        """,
    "activation.each_file_holds_its_members": "update activation.reread_files set row_count = row_count + 1",
    "activation.headers_are_what_the_platform_wants": "update activation.reread_files set is_header_right = false",
    "activation.no_file_is_unexpected": "update activation.reread_files set is_expected = false",
    "activation.files_are_private": "update activation.reread_files set is_private = false",
    "activation.cells_are_well_formed": "update activation.reread_files set malformed_count = 1",
    "activation.hashed_files_hold_no_plain_contact": "update activation.reread_files set plain_contact_count = 1",
    "activation.every_line_has_an_identifier": "update activation.reread_files set empty_row_count = 1",
    "activation.what_is_to_be_forgotten_is_told_by_hashes_alone": """
        insert into activation.reread_removals values ('email_tool.csv', 1, true)
        """,
    "activation.no_cell_is_a_formula": "update activation.reread_files set formula_count = 1",
    "release.every_file_is_as_written": "update release.reread set is_kept = false where kind = 'file'",
    "release.every_table_has_its_rows": "update release.reread set is_kept = false where kind = 'table'",
    "release.every_gate_has_passed": "delete from release.gate_results where gate = 'identity'",
}

_TICKETS_LOSE_THEIR_ACCOUNT = "delete from remembered.account_links where feed = 'pos_tickets'"

# Statements of identity that warn, each with what it is there for, and what else that must move.
WARNINGS: dict[str, tuple[str, set[str]]] = {
    "the_largest_account_hardly_grows": (
        """
        insert into remembered.account_links by name
        select 'loyalty_members' as feed, 'X' || people.number as record_id,
            (select min(account_id) from identity.account_links) as account_id, true as is_person_record
        from range(12) as people (number)
        """,
        set(),
    ),
    "redirects_lead_to_living_accounts": (
        "insert into remembered.account_redirects by name select 'X' as old_account_id, 'Y' as account_id",
        set(),
    ),
    "ids_hardly_change": (
        """
        update remembered.account_links set account_id = 'N' || account_id
        where feed = 'shop_customers' and record_id = (
            select min(record_id) from identity.account_links where feed = 'shop_customers'
        )
        """,
        set(),
    ),
    "few_pairs_are_refused": ("update remembered.edges set decision = 'refused'", set()),
    "records_are_compared": (
        """
        insert into remembered.cut_blocks
        select 'names', 'X', count(*) // 10, 'not_compared', 0 from identity.contacts
        """,
        set(),
    ),
    "few_accounts_hang_by_one_weak_pair": (
        "update remembered.edges set weight = 9.5 where decision = 'accepted'",
        set(),
    ),
    "as_many_purchases_are_identified_as_before": (_TICKETS_LOSE_THEIR_ACCOUNT, set()),
    "new_purchases_are_identified_as_usual": (
        """
        insert into staging.stg_pos_tickets by name
        select 'X' || tickets.number as ticket_id from range(120) as tickets (number)
        """,
        {"as_many_purchases_are_identified_as_before"},
    ),
}


def suites() -> dict[str, Suite]:
    found = (
        landing.suite(Settings(home=Path("home"))),
        staging.suite(Settings(home=Path("home"))),
        identity.suite(True),
        account.suite(),
        segment.suite(),
        audience.suite(True, read_variables()),
        activation.suite(),
        release.suite(),
    )
    return {suite.stage: suite for suite in found}


@pytest.fixture(scope="module")
def good_night(base_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    warehouse = shutil.copy(base_home / "warehouse.duckdb", tmp_path_factory.mktemp("statements"))
    published = base_home / "releases" / "current" / releases.DATABASES["analysts"]
    with duckdb.connect(str(warehouse)) as connection:
        connection.execute("set TimeZone = 'UTC'")
        connection.execute(f"attach '{published}' as previous (read_only)")
        yield connection


def stopping(connection: duckdb.DuckDBPyConnection, stage: str) -> list[str]:
    judgements = judge(connection, suites()[stage], {})
    return [f"{stage}.{judgement.statement.name}" for judgement in judgements if judgement.is_stopping]


@pytest.mark.parametrize("stage", suites())
def test_a_good_night_passes_every_gate(good_night: duckdb.DuckDBPyConnection, stage: str) -> None:
    assert stopping(good_night, stage) == []


@pytest.mark.parametrize("statement", CORRUPTIONS)
def test_the_statement_finds_its_corruption_and_no_other_does(
    good_night: duckdb.DuckDBPyConnection, statement: str
) -> None:
    good_night.execute("begin transaction")
    try:
        ((changed,),) = good_night.execute(CORRUPTIONS[statement]).fetchall()
        assert changed > 0
        assert stopping(good_night, statement.split(".")[0]) == [statement]
    finally:
        good_night.execute("rollback")


_REFUSED_TONIGHT = f"""
    insert into staging.quarantine by name
    select feed, file, numbers.line, delivered_on,
        case when numbers.line < 40 then 'unreadable_value' when numbers.line < 55 then 'mandatory_missing'
            when numbers.line < 59 then 'unknown_choice' else 'out_of_bounds' end as rule,
        case when numbers.line < 55 then 'occurred_at' when numbers.line < 59 then 'event' end as column_name
    from landing.files, range(60) as numbers (line) where {_TONIGHT}
"""


@pytest.mark.parametrize(
    ("share", "shares", "stopped"),
    [
        (0.2, {}, ["quarantine_is_small"]),
        (0.2, {"web_events": 0.9}, []),
        (0.9, {"web_events": 0.5}, ["quarantine_is_small_of_web_events"]),
        (0.2, {"pos_tickets": 0.0}, ["quarantine_is_small"]),
    ],
)
def test_a_feed_may_have_a_limit_of_its_own_and_the_three_main_causes_are_told(
    good_night: duckdb.DuckDBPyConnection, share: float, shares: dict[str, float], stopped: list[str]
) -> None:
    limits = Settings(home=Path("home"), quarantine_stop_share=share, quarantine_stop_shares=shares)
    good_night.execute("begin transaction")
    try:
        good_night.execute(_REFUSED_TONIGHT)
        found = [judgement for judgement in judge(good_night, staging.suite(limits), {}) if judgement.is_stopping]
    finally:
        good_night.execute("rollback")
    assert [judgement.statement.name for judgement in found] == stopped
    for judgement in found:
        assert judgement.failed_scopes == (
            "web_events of 2020-07-10, 60 rows: "
            "occurred_at unreadable_value 40, occurred_at mandatory_missing 15, event unknown_choice 4",
        )


def test_returns_that_nobody_refunded_are_told_with_their_amount(good_night: duckdb.DuckDBPyConnection) -> None:
    def told() -> list[tuple[str, ...]]:
        judgements = judge(good_night, account.suite(), {})
        return [j.failed_scopes for j in judgements if j.statement.name == "in_store_returns_are_refunded"]

    assert told() == [()]
    good_night.execute("begin transaction")
    try:
        good_night.execute(
            """
            insert into account.unrefunded_returns by name
            select 'T' || numbers.number as ticket_id, 115.20 as outstanding_amount from range(3) as numbers (number)
            """
        )
        assert told() == [("3 returns, 345,60 in all",)]
    finally:
        good_night.execute("rollback")


def test_requests_of_people_that_wait_are_told_a_week_before_their_day(good_night: duckdb.DuckDBPyConnection) -> None:
    def told() -> list[tuple[str, ...]]:
        judgements = judge(good_night, account.suite(), {})
        return [j.failed_scopes for j in judgements if j.statement.name == "requests_are_answered_in_time"]

    good_night.execute("begin transaction")
    try:
        good_night.execute("delete from account.request_deadlines")
        assert told() == [()]
        good_night.execute(
            """
            insert into account.request_deadlines by name
            from (
                values
                    ('DUE', 7, 'open'), ('LATER', 8, 'open'), ('LATE', -1, 'overdue'), ('WHO', -9, 'to be confirmed'),
                    ('DONE', -9, 'carried out'), ('OBJECTED', -9, 'respected'), ('NOBODY', -9, 'nobody')
            ) as told (request_id, days_left, state)
            """
        )
        assert told() == [("1 due within a week, 2 overdue",)]
    finally:
        good_night.execute("rollback")


def warned_of(connection: duckdb.DuckDBPyConnection) -> set[str]:
    judgements = judge(connection, suites()["identity"], {})
    warns = {judgement.statement.name for judgement in judgements if judgement.statement.severity == "warn"}
    return warns & {judgement.statement.name for judgement in judgements if not judgement.is_passed}


def test_a_good_night_gives_no_warning_of_identity(good_night: duckdb.DuckDBPyConnection) -> None:
    assert warned_of(good_night) == set()


@pytest.mark.parametrize("statement", WARNINGS)
def test_a_warning_of_identity_is_given_for_what_it_is_there_for(
    good_night: duckdb.DuckDBPyConnection, statement: str
) -> None:
    corruption, others = WARNINGS[statement]
    good_night.execute("begin transaction")
    try:
        ((changed,),) = good_night.execute(corruption).fetchall()
        assert changed > 0
        assert warned_of(good_night) == {statement, *others}
    finally:
        good_night.execute("rollback")


def test_without_a_last_release_identity_compares_with_nothing() -> None:
    """A first night has no yesterday: what looks at it measures nothing, and holds."""
    names = {
        "the_largest_account_hardly_grows",
        "as_many_purchases_are_identified_as_before",
        "new_purchases_are_identified_as_usual",
        "ids_stay_with_their_records",
        "ids_hardly_change",
    }
    compares = tuple(statement for statement in identity.suite(False).statements if statement.name in names)
    assert len(compares) == len(names)
    with duckdb.connect() as connection:
        assert all(judgement.is_passed for judgement in judge(connection, Suite("identity", "", compares), {}))


def test_every_statement_of_identity_that_warns_is_tried_here() -> None:
    assert {s.name for s in suites()["identity"].statements if s.severity == "warn"} == set(WARNINGS)


@pytest.mark.parametrize(("members", "is_stopped"), [(100, False), (11, False), (9, True), (0, True), (1101, True)])
def test_an_audience_that_jumps_is_stopped(members: int, is_stopped: bool) -> None:
    with duckdb.connect() as connection:
        connection.execute("attach ':memory:' as previous")
        connection.execute("create schema memory.audience")
        connection.execute(
            "create table memory.audience.audiences as select 'vip' as audience, false as is_review_overdue"
        )
        for name, count in (("memory", members), ("previous", 110)):
            connection.execute(f"create schema if not exists {name}.audience")
            connection.execute(
                f"""
                create table {name}.audience.members as
                select 'vip' as audience, 'email_tool' as destination, number::varchar as account_id
                from range({count}) as people (number)
                """
            )
        whole = suites()["audience"]
        (statement,) = [statement for statement in whole.statements if statement.name == "no_audience_jumps"]
        (judgement,) = judge(connection, Suite(whole.stage, whole.asset, (statement,)), {})
    assert judgement.is_stopping == is_stopped
    assert judgement.failed_scopes == (("vip for email_tool",) if is_stopped else ())


def test_every_statement_that_can_stop_a_run_is_tried_here() -> None:
    stops = {
        f"{stage}.{statement.name}"
        for stage, suite in suites().items()
        for statement in suite.statements
        if statement.severity == "stop"
    }
    assert stops == {*CORRUPTIONS, "audience.no_audience_jumps"}
