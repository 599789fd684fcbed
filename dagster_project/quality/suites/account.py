"""The gate out of account: do the books balance to the cent, and is everybody and every purchase there?"""

from dagster_project.quality.statements import Statement, Suite


def suite() -> Suite:
    """The account gate; amounts are compared exactly, as decimals."""
    return Suite(
        stage="account",
        asset="account.accounts",
        statements=(
            Statement(
                "the_books_balance",
                """
                select channel || ' ' || strftime(business_on, '%Y-%m'),
                    sum(abs(delivered_amount - counted_amount - excluded_amount))
                from account.reconciliation
                group by all
                """,
                "Delivered amounts differ from counted plus excluded ones: account.reconciliation says on which day.",
                least=0,
                most=0,
                is_acceptable=False,
            ),
            Statement(
                "accounts_and_anonymous_make_the_ledger",
                """
                select 'all channels',
                    (select coalesce(sum(counted_amount), 0) from account.reconciliation)
                    - (select coalesce(sum(counted_amount), 0) from account.accounts)
                    - (select coalesce(sum(counted_amount), 0) from account.transactions where account_id is null)
                union all
                select channel || ' ' || strftime(business_on, '%Y-%m'),
                    sum(abs(counted_amount - identified_amount - anonymous_amount))
                from account.reconciliation
                group by all
                union all
                select channel || ' of accounts that are not there', sum(abs(counted_amount))
                from account.transactions
                where account_id is not null and account_id not in (select account_id from account.accounts)
                group by channel
                """,
                "The accounts do not add up to the ledger: a transaction points to an account that is not there.",
                least=0,
                most=0,
                is_acceptable=False,
            ),
            Statement(
                "every_transaction_is_in_the_ledger_once",
                """
                select 'shop_orders', (select count(*) from staging.stg_shop_orders)
                    - (select count(distinct record_id) from account.transactions where feed = 'shop_orders')
                union all
                select 'pos_tickets', (select count(*) from staging.stg_pos_tickets)
                    - (select count(distinct record_id) from account.transactions where feed = 'pos_tickets')
                union all
                select 'shop_refunds', (select count(*) from staging.stg_shop_refunds)
                    - (select count(distinct record_id) from account.transactions where feed = 'shop_refunds')
                union all
                select 'all feeds', count(*) - count(distinct transaction_id) from account.transactions
                """,
                "Orders, tickets or refunds are missing from the ledger or stand in it twice.",
                least=0,
                most=0,
                is_acceptable=False,
            ),
            Statement(
                "lines_make_their_transactions",
                """
                with sums as (
                    select channel, sum(counted_amount - shipping_amount + discount_amount - gap_amount) as amount
                    from account.transactions
                    where exclusion is null
                    group by channel
                    union all
                    select if(starts_with(transaction_id, 'pos_tickets:'), 'store', 'online') as channel, -sum(amount)
                    from account.transaction_lines
                    where is_counted
                    group by all
                )
                select channel, sum(amount)
                from sums
                group by channel
                """,
                "Lines + shipping - discount + gap is not the counted amount: a line is missing from "
                "account.transaction_lines, stands in it twice, or counts where its transaction does not.",
                least=0,
                most=0,
                is_acceptable=False,
            ),
            Statement(
                "nobody_is_lost",
                """
                select 'all accounts',
                    (select count(distinct account_id) from identity.account_links)
                    - (select count(*) from account.accounts)
                """,
                "Accounts that identity found are missing, or others were made up.",
                least=0,
                most=0,
                is_acceptable=False,
            ),
            Statement(
                "in_store_returns_are_refunded",
                """
                select
                    count(*) || if(count(*) = 1, ' return, ', ' returns, ')
                    || replace(coalesce(sum(outstanding_amount), 0.00)::varchar, '.', ',') || ' in all',
                    count(*)
                from account.unrefunded_returns
                """,
                "Shops took goods of online orders back and the web shop has not refunded them: "
                "account.unrefunded_returns lists them; show it to whoever runs the web shop.",
                most=0,
                severity="warn",
            ),
            Statement(
                "requests_are_answered_in_time",
                """
                select
                    count(*) filter (where days_left >= 0) || ' due within a week, '
                    || count(*) filter (where days_left < 0) || ' overdue',
                    count(*)
                from account.request_deadlines
                where days_left <= 7 and state in ('open', 'overdue', 'to be confirmed')
                """,
                "People wait for the answer to a request, and the law gives a month: cocanal privacy list says which, "
                "docs/privacy.md how each is carried out.",
                most=0,
                severity="warn",
            ),
            Statement(
                "headers_equal_their_lines",
                "select channel, avg((not is_balanced)::integer) from account.transactions group by channel",
                "account.transactions.is_balanced says which; the header's amount is the one that counts.",
                most=0.05,
                severity="warn",
            ),
        ),
    )
