"""What did not come is noticed: a silent shop, a file of half its size, a feed that is late. And only that."""

from collections.abc import Iterator
from datetime import date, timedelta
from typing import Any

import duckdb
import pytest

from dagster_project.domain.contract import feeds
from dagster_project.domain.landing.reader import OPEN_END
from dagster_project.quality.gate import judge
from dagster_project.quality.statements import Judgement, Suite
from dagster_project.quality.suites import landing
from dagster_project.quality.suites.freshness import freshness_statements
from dagster_project.settings import Settings

AS_OF = date(2020, 7, 10)  # a Friday
SUNDAY = 6


@pytest.fixture
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("set TimeZone = 'UTC'")
        for schema in ("landing", "staging"):
            connection.execute(f"create schema {schema}")
        connection.execute(
            f"create table landing.builds as select date '{AS_OF}' as as_of, null::date as previous_as_of"
        )
        connection.execute(
            """
            create table landing.files (
                feed varchar, file varchar, delivered_on date, row_count bigint, rejected_row_count bigint,
                status varchar, message varchar
            )
            """
        )
        connection.execute("create table landing.unreleased_files (file varchar, delivered_on date)")
        connection.execute("create table landing.withdrawn_files (file varchar, delivered_on date)")
        connection.execute(
            "create table landing.store_hours (store_id varchar, day varchar, is_open varchar, delivered_on date)"
        )
        connection.execute(
            "create table staging.stg_pos_tickets (ticket_id varchar, store_id varchar, sold_at timestamp)"
        )
        connection.execute("create table staging.stg_stores (store_id varchar, closed_on date)")
        connection.execute("create table staging.stg_store_hours (store_id varchar, day date, is_open boolean)")
        yield connection


def verdict(connection: duckdb.DuckDBPyConnection, name: str, **settings: Any) -> Judgement:
    given = Settings(home="home", **settings)
    statements = (*landing.suite(given).statements, *freshness_statements(given))
    (statement,) = [statement for statement in statements if statement.name == name]
    (judgement,) = judge(connection, Suite("landing", "landing.files", (statement,)), {})
    return judgement


def sell(connection: duckdb.DuckDBPyConnection, store: str, day: date, count: int) -> None:
    connection.execute(
        """
        insert into staging.stg_pos_tickets
        select $1 || $2 || number, $1, $2::timestamp + interval 8 hour + interval (number) minute
        from range($3) as tickets (number)
        """,
        [store, day.isoformat(), count],
    )


def trade(
    connection: duckdb.DuckDBPyConnection, usual: dict[str, int], last_on: dict[str, date], days: int = 60
) -> None:
    """Each shop sells its usual number of tickets on each day but Sundays, up to its own last day."""
    for ago in range(days, 0, -1):
        day = AS_OF - timedelta(days=ago)
        for store, count in usual.items():
            if day.weekday() != SUNDAY and day <= last_on.get(store, AS_OF):
                sell(connection, store, day, count)


CHAIN = {"S1": 30, "S2": 12, "S3": 20}


def silence(connection: duckdb.DuckDBPyConnection, **settings: Any) -> Judgement:
    return verdict(connection, "no_shop_has_gone_silent", **settings)


def test_a_chain_that_sells_as_ever_is_not_silent(database: duckdb.DuckDBPyConnection) -> None:
    trade(database, CHAIN, {})
    assert silence(database).is_passed


def test_a_shop_without_a_ticket_for_a_usual_day_is_noticed_the_next_night(
    database: duckdb.DuckDBPyConnection,
) -> None:
    trade(database, CHAIN, {"S1": date(2020, 7, 8)})
    found = silence(database)
    assert not found.is_passed and not found.is_stopping
    assert found.failed_scopes == ("shop S1, last ticket on 2020-07-08, usually 30 since",)
    assert found.observed == 30
    assert silence(database, silence_action="stop").is_stopping
    assert silence(database, silence_most_tickets=30).is_passed


def test_a_small_shop_is_silent_after_as_many_days_as_chance_allows(database: duckdb.DuckDBPyConnection) -> None:
    trade(database, {**CHAIN, "S4": 4}, {"S4": date(2020, 7, 7)})
    assert silence(database).is_passed
    database.execute("delete from staging.stg_pos_tickets where store_id = 'S4' and sold_at >= '2020-07-07'")
    assert silence(database).failed_scopes == ("shop S4, last ticket on 2020-07-06, usually 12 since",)


def test_a_shop_that_rests_on_sundays_misses_nothing_on_a_monday_morning(database: duckdb.DuckDBPyConnection) -> None:
    database.execute("update landing.builds set as_of = date '2020-07-06'")
    trade(database, CHAIN, dict.fromkeys(CHAIN, date(2020, 7, 4)))
    for ago in (4, 11, 18, 25, 32, 39, 46, 53):  # S2 and S3 open on Sundays, S1 does not
        for store in ("S2", "S3"):
            sell(database, store, AS_OF - timedelta(days=ago + 1), 10)
    assert silence(database).is_passed


@pytest.mark.parametrize(
    "said",
    [
        "insert into staging.stg_store_hours values ('S1', date '2020-07-09', false)",
        "insert into staging.stg_stores values ('S1', date '2020-07-08')",
    ],
    ids=["store_hours", "closed_on"],
)
def test_a_shop_that_said_it_is_closed_is_not_silent(database: duckdb.DuckDBPyConnection, said: str) -> None:
    trade(database, CHAIN, {"S1": date(2020, 7, 8)})
    database.execute(said)
    assert silence(database).is_passed


def test_when_no_shop_opens_nobody_is_silent(database: duckdb.DuckDBPyConnection) -> None:
    """A confinement, a strike, a holiday: whether the feed came at all is another statement's question."""
    trade(database, CHAIN, dict.fromkeys(CHAIN, date(2020, 7, 1)))
    assert silence(database).is_passed


def test_a_shop_gone_for_eight_weeks_is_taken_for_closed(database: duckdb.DuckDBPyConnection) -> None:
    trade(database, CHAIN, {"S1": AS_OF - timedelta(days=57)}, days=110)
    assert silence(database).is_passed


def test_tickets_of_before_midnight_in_paris_belong_to_their_day(database: duckdb.DuckDBPyConnection) -> None:
    trade(database, CHAIN, {"S1": date(2020, 7, 8)})
    database.execute("insert into staging.stg_pos_tickets values ('late', 'S1', timestamp '2020-07-08 22:30:00')")
    assert silence(database).is_passed, "half past midnight of the ninth in Paris"


def deliver(
    connection: duckdb.DuckDBPyConnection, day: date, count: int, feed: str = "web_events", message: str = ""
) -> None:
    connection.execute(
        "insert into landing.files values ($1, $1 || '/' || $2 || '/a.csv', $2, $3, 0, 'loaded', $4)",
        [feed, day, count, message],
    )


def nights(connection: duckdb.DuckDBPyConnection, tonight: int, feed: str = "web_events", sundays: int = 1000) -> None:
    for ago in range(42, 0, -1):
        day = AS_OF - timedelta(days=ago)
        deliver(connection, day, sundays if day.weekday() == SUNDAY else 1000, feed)
    deliver(connection, AS_OF, tonight, feed)


STOP, WARN = "volume_is_not_a_fraction_of_the_usual", "volume_is_near_the_usual"


def test_a_file_of_half_its_usual_size_is_noticed_and_one_of_a_tenth_stops(database: duckdb.DuckDBPyConnection) -> None:
    nights(database, 490)
    found = verdict(database, WARN)
    assert found.failed_scopes == ("web_events of 2020-07-10, 490 rows where 1000 are usual",)
    assert verdict(database, STOP).is_passed
    database.execute("update landing.files set row_count = 90 where delivered_on = $1", [AS_OF])
    assert verdict(database, STOP).is_stopping
    assert not verdict(database, STOP, volume_action="warn").is_stopping


def test_a_day_is_compared_with_its_own_weekday(database: duckdb.DuckDBPyConnection) -> None:
    """Friday usually brings three times a Monday: half a Friday is no usual day, though a Monday has as much."""
    nights(database, 1400)
    database.execute(
        "update landing.files set row_count = 3000 where dayofweek(delivered_on) = 5 and delivered_on < $1", [AS_OF]
    )
    assert verdict(database, WARN).failed_scopes == ("web_events of 2020-07-10, 1400 rows where 3000 are usual",)


def test_a_small_sunday_is_a_usual_sunday(database: duckdb.DuckDBPyConnection) -> None:
    nights(database, 1000, sundays=300)
    database.execute("update landing.builds set as_of = date '2020-07-05'")
    assert verdict(database, WARN).is_passed
    assert verdict(database, STOP).is_passed


def test_an_empty_till_file_after_a_closed_day_is_as_it_should_be(database: duckdb.DuckDBPyConnection) -> None:
    nights(database, 0, "pos_tickets")
    assert verdict(database, STOP).is_stopping
    closed = "insert into landing.store_hours values ('S1', '2020-07-09', 'false', date '2020-07-01')"
    database.execute(closed)
    deliver(database, date(2020, 7, 1), 1, "store_hours")
    assert verdict(database, STOP).is_passed
    assert verdict(database, WARN).is_passed
    database.execute("insert into landing.store_hours values ('S2', '2020-07-09', 'true', date '2020-07-01')")
    assert verdict(database, STOP).is_stopping


def test_a_feed_may_have_limits_of_its_own(database: duckdb.DuckDBPyConnection) -> None:
    nights(database, 400)
    given = {"volume_warn_shares": {"web_events": 0.3}}
    assert verdict(database, WARN, **given).is_passed
    assert verdict(database, f"{WARN}_of_web_events", **given).is_passed
    assert not verdict(database, f"{WARN}_of_web_events", volume_warn_shares={"web_events": 0.45}).is_passed
    assert verdict(database, f"{STOP}_of_web_events", volume_stop_shares={"web_events": 0.45}).is_stopping


def test_a_feed_is_stale_when_it_is_late_against_its_own_rhythm(database: duckdb.DuckDBPyConnection) -> None:
    for ago in range(4, 40):
        deliver(database, AS_OF - timedelta(days=ago), 1000)
    for ago in range(9, 90, 7):
        deliver(database, AS_OF - timedelta(days=ago), 1000, "stock")
    assert verdict(database, "every_feed_delivered_when_usual").failed_scopes == ("stock", "web_events")
    assert verdict(database, "no_feed_is_stale").is_passed
    found = verdict(database, "no_feed_is_stale", stale_after_days=2)
    assert found.failed_scopes == ("web_events, last file of 2020-07-06",)
    assert (found.observed, found.is_stopping) == (1, False)
    own = {"stale_after_days": 2, "stale_after_days_of": {"web_events": 5, "stock": 1}, "stale_action": "stop"}
    found = verdict(database, "no_feed_is_stale", **own)
    assert (found.failed_scopes, found.is_stopping) == (("stock, last file of 2020-07-01",), True)


def test_a_last_row_without_a_line_end_is_told_of_a_feed_that_has_one(database: duckdb.DuckDBPyConnection) -> None:
    for ago in range(1, 20):
        deliver(database, AS_OF - timedelta(days=ago), 1000)
        deliver(database, AS_OF - timedelta(days=ago), 1000, "stock", OPEN_END)
    deliver(database, AS_OF, 1000, "web_events", OPEN_END)
    deliver(database, AS_OF, 1000, "stock", OPEN_END)
    assert verdict(database, "files_end_as_usual").failed_scopes == ("web_events/2020-07-10/a.csv",)


def test_a_file_that_comes_late_into_an_older_day_is_judged_by_itself(database: duckdb.DuckDBPyConnection) -> None:
    """The day's other rows are in a release already: they must not hide that nothing of the late file can be read."""
    nights(database, 1000)
    database.execute("update landing.builds set previous_as_of = date '2020-07-09'")
    database.execute(
        """
        insert into landing.files values
        ('web_events', 'web_events/2020-07-01/late.csv', date '2020-07-01', 60, 60, 'cut_off', 'it ends too early')
        """
    )
    assert verdict(database, "rows_could_be_read").is_passed
    assert verdict(database, "every_file_could_be_read").is_passed
    database.execute("insert into landing.unreleased_files values ('web_events/2020-07-01/late.csv', '2020-07-01')")
    assert verdict(database, "rows_could_be_read").is_stopping
    assert verdict(database, "every_file_could_be_read").failed_scopes == (
        "web_events/2020-07-01/late.csv: cut_off, it ends too early",
    )


def test_a_file_that_left_landing_before_it_was_released_is_told_until_the_next_release(
    database: duckdb.DuckDBPyConnection,
) -> None:
    """A night was stopped, and the supplier emptied the folder: without a word its rows would be missing for ever."""
    name = "no_delivery_was_withdrawn"
    assert verdict(database, name).is_passed
    database.execute("insert into landing.withdrawn_files values ('stores/2020-07-09/s.csv', '2020-07-09')")
    assert verdict(database, name).failed_scopes == ("stores/2020-07-09/s.csv",)
    database.execute("update landing.builds set previous_as_of = date '2020-07-09'")
    assert verdict(database, name).is_passed


def test_a_file_of_a_first_night_is_judged_whatever_its_day(database: duckdb.DuckDBPyConnection) -> None:
    """The history of years comes in one night, and most of it under older days than the newest."""
    nights(database, 1000)
    database.execute("insert into landing.unreleased_files select file, delivered_on from landing.files")
    database.execute("update landing.files set rejected_row_count = 400 where delivered_on = date '2020-06-15'")
    assert verdict(database, "rows_could_be_read").failed_scopes == ("web_events of 2020-06-15",)
    database.execute("update landing.files set row_count = 50 where delivered_on = date '2020-07-05'")
    assert verdict(database, STOP).is_passed, "what is usual is judged from the next night on"


def test_tills_are_the_feeds_that_opening_days_are_asked_for() -> None:
    assert {feed.name for feed in feeds().values() if feed.dialect == "pos"} == {"pos_tickets", "pos_ticket_lines"}
