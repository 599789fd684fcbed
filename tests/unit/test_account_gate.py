"""The books of a retailer whose deliveries name nobody yet are books all the same."""

import duckdb

from dagster_project.quality.gate import judge
from dagster_project.quality.statements import Suite
from dagster_project.quality.suites import account


def test_tickets_of_nobody_balance_without_a_single_account() -> None:
    (statement,) = [s for s in account.suite().statements if s.name == "accounts_and_anonymous_make_the_ledger"]
    suite = Suite("account", "account.accounts", (statement,))
    with duckdb.connect() as connection:
        connection.execute("create schema account")
        connection.execute("create table account.accounts (account_id varchar, counted_amount decimal(18, 2))")
        connection.execute(
            "create table account.transactions as "
            "select 'store' as channel, null::varchar as account_id, 12.50::decimal(18, 2) as counted_amount"
        )
        connection.execute(
            """
            create table account.reconciliation as
            select 'store' as channel, date '2020-07-10' as business_on, 12.50::decimal(18, 2) as counted_amount,
                0.00::decimal(18, 2) as identified_amount, 12.50::decimal(18, 2) as anonymous_amount
            """
        )
        assert judge(connection, suite, {})[0].is_passed
        connection.execute("update account.transactions set account_id = 'A1'")
        assert not judge(connection, suite, {})[0].is_passed
