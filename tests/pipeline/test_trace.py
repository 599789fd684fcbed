"""One row can be followed from its file and line to where it ended, and the trace says what the run said."""

from collections import Counter
from pathlib import Path
from typing import Any

import duckdb
import pytest
from typer.testing import CliRunner

from dagster_project.cli import app
from dagster_project.domain.contract import feeds
from dagster_project.settings import SettingsError
from dagster_project.trace import find_key, trace


@pytest.fixture
def released(base_home: Path) -> Any:
    with duckdb.connect(str(base_home / "releases" / "current" / "cocanal.duckdb"), read_only=True) as connection:
        yield connection


def test_a_ticket_is_followed_to_its_account_and_its_audiences(
    base_home: Path, settings_of: Any, released: Any
) -> None:
    ((ticket, account, amount),) = released.execute(
        """
        select record_id, account_id, amount from account.transactions
        where feed = 'pos_tickets' and account_id in (select account_id from audience.waterfall)
        order by record_id limit 1
        """
    ).fetchall()
    found = trace(settings_of(base_home), "pos_tickets", ticket)
    assert [each.fate for each in found.occurrences].count("current") == 1
    assert found.booking is not None
    assert (found.booking.amount, found.booking.counted_amount) == (amount, amount)
    assert [account_id for account_id, *_ in found.accounts] == [account]
    said = {(each.audience, each.destination, each.reason) for each in found.outcomes[account] if each.reason}
    assert said == set(
        released.execute(
            "select audience, destination, reason from audience.waterfall where account_id = $1", [account]
        ).fetchall()
    )


def test_every_delivered_row_of_a_key_has_the_fate_that_the_run_counted(
    base_home: Path, settings_of: Any, broken_value: str
) -> None:
    """For the order that was delivered most often, as the working database counted its rows."""
    with duckdb.connect(str(base_home / "warehouse.duckdb"), read_only=True) as connection:
        ((order, identical, superseded, file_no, line),) = connection.execute(
            """
            select order_id, identical_row_count, superseded_row_count, file_no, line from staging.stg_shop_orders
            order by superseded_row_count desc, identical_row_count desc, order_id limit 1
            """
        ).fetchall()
        ((file,),) = connection.execute(
            "select file from landing.files where feed = 'shop_orders' and file_no = $1", [file_no]
        ).fetchall()
    assert superseded > 0
    found = trace(settings_of(base_home), "shop_orders", order)
    fates = Counter(each.fate for each in found.occurrences)
    assert fates == Counter({"current": 1, "identical": identical, "superseded": superseded}) - Counter()
    (current,) = [each for each in found.occurrences if each.fate == "current"]
    assert (current.file, current.line) == (file, line)
    assert find_key(settings_of(base_home), "shop_orders", file, line) == order


def test_a_refused_row_says_by_which_rule_and_what_to_do(base_home: Path, settings_of: Any, released: Any) -> None:
    ((feed, key, file, line, rule, message),) = released.execute(
        """
        select feed, record_id, file, line, rule, message from staging.quarantine
        where feed = 'pos_tickets' and record_id is not null order by record_id limit 1
        """
    ).fetchall()
    found = trace(settings_of(base_home), feed, key)
    assert ("refused", file, line, rule, message) in [
        (each.fate, each.file, each.line, each.rule, each.message) for each in found.occurrences
    ]
    assert found.booking is None and found.accounts == ()


def test_a_line_is_followed_through_its_header(base_home: Path, settings_of: Any, released: Any) -> None:
    ((order, number),) = released.execute(
        """
        select split_part(transaction_id, ':', 2), line_no from account.transaction_lines
        where transaction_id like 'shop_orders:%' order by all limit 1
        """
    ).fetchall()
    found = trace(settings_of(base_home), "shop_order_lines", f"{order}|{number}")
    assert found.header == f"shop_orders:{order}"
    assert found.booking is not None and found.booking.transaction_id == found.header


def test_a_consent_leads_to_the_accounts_that_hold_its_identifier(
    base_home: Path, settings_of: Any, released: Any
) -> None:
    with duckdb.connect(str(base_home / "warehouse.duckdb"), read_only=True) as connection:
        ((consent, customer),) = connection.execute(
            """
            select consent_id, key_value from staging.stg_consents
            where key_type = 'customer_id' order by consent_id limit 1
            """
        ).fetchall()
    ((account,),) = released.execute(
        "select account_id from identity.account_links where feed = 'shop_customers' and record_id = $1", [customer]
    ).fetchall()
    found = trace(settings_of(base_home), "consents", consent)
    assert account in [account_id for account_id, *_ in found.accounts]


def test_what_was_never_delivered_and_what_cannot_be_a_key_is_said(base_home: Path, settings_of: Any) -> None:
    assert trace(settings_of(base_home), "pos_tickets", "T-NEVER").occurrences == ()
    with pytest.raises(SettingsError, match="There is no feed «tickets»"):
        trace(settings_of(base_home), "tickets", "T1")
    with pytest.raises(SettingsError, match=r"A key of pos_ticket_lines is ticket_id\|line_no"):
        trace(settings_of(base_home), "pos_ticket_lines", "T1")
    with pytest.raises(SettingsError, match="No run has read a file"):
        find_key(settings_of(base_home), "pos_tickets", "pos_tickets/2020-07-01/nothing.csv", 1)


def test_the_command_shows_ids_and_no_value_of_the_row(base_home: Path, released: Any) -> None:
    ((customer,),) = released.execute(
        "select min(record_id) from identity.account_links where feed = 'shop_customers'"
    ).fetchall()
    told = CliRunner().invoke(app, ["trace", "shop_customers", customer, "--home", str(base_home)])
    assert told.exit_code == 0, told.output
    assert "Delivered" in told.output and "counts" in told.output
    with duckdb.connect(str(base_home / "warehouse.duckdb"), read_only=True) as connection:
        columns = [column.name for column in feeds()["shop_customers"].columns if column.personal]
        (values,) = connection.execute(
            f"select {', '.join(columns)} from staging.stg_shop_customers where customer_id = $1", [customer]
        ).fetchall()
    assert [str(value) for value in values if value and str(value) in told.output] == []
