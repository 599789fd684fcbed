"""The gate out of identity: is each record in one account, and has nothing been glued together that should not be?"""

from dagster_project.quality.statements import Statement, Suite


def suite(has_previous: bool) -> Suite:
    """The identity gate; ``has_previous`` says whether the last release is attached as ``previous``."""
    churn = (
        """
        with tonight as (
            select feed, record_id, account_id from identity.account_links where is_person_record
        ),
        moved as (
            select
                tonight.feed,
                tonight.account_id <> coalesce(redirects.account_id, before.account_id) as has_moved
            from tonight
            join previous.identity.account_links as before using (feed, record_id)
            left join identity.account_redirects as redirects on redirects.old_account_id = before.account_id
        )
        select 'all records', avg(has_moved::integer) from moved
        """
        if has_previous
        else "select 'all records', null"
    )
    return Suite(
        stage="identity",
        asset="identity.account_links",
        statements=(
            Statement(
                "each_record_has_one_account",
                """
                select feed, count(*) - count(distinct record_id) from identity.account_links group by feed
                union all
                select feed, count(*) from identity.account_links where account_id is null group by feed
                """,
                "A record lies in two accounts or in none: look at the newest change of the identity stage.",
                most=0,
                is_acceptable=False,
            ),
            Statement(
                "no_person_is_lost",
                """
                select 'shop_customers', count(*)
                from staging.stg_shop_customers as people
                where not exists (
                    select 1 from identity.account_links as links
                    where links.feed = 'shop_customers' and links.record_id = people.customer_id
                )
                union all
                select 'loyalty_members', count(*)
                from staging.stg_loyalty_members as people
                where not exists (
                    select 1 from identity.account_links as links
                    where links.feed = 'loyalty_members' and links.record_id = people.card_id
                )
                """,
                "Web accounts or cards have no account: look at the newest change of the identity stage.",
                most=0,
                is_acceptable=False,
            ),
            Statement(
                "no_account_is_a_crowd",
                """
                select 'web accounts and cards of the largest account', max(records) from (
                    select count(*) as records
                    from identity.account_links
                    where feed in ('shop_customers', 'loyalty_members')
                    group by account_id
                )
                """,
                "One account has swallowed many people, as a shared e-mail does: look at identity.edges of the largest "
                "account and block the value in the identifier policy.",
                most=50,
            ),
            Statement(
                "redirects_lead_to_living_accounts",
                """
                select 'redirects', count(*)
                from identity.account_redirects as redirects
                where not exists (
                    select 1 from identity.account_links as links where links.account_id = redirects.account_id
                )
                """,
                "An old account id leads nowhere: look at identity.account_redirects.",
                most=0,
                severity="warn",
            ),
            Statement(
                "ids_stay_with_their_records",
                churn,
                "Many records changed their account id since the last release: compare identity.account_events of both "
                "releases before analysts and audiences see it; a changed policy may be the reason.",
                most=0.05,
            ),
            Statement(
                "ids_hardly_change",
                churn,
                "More records than usual changed their account id; identity.account_events says why.",
                most=0.001,
                severity="warn",
            ),
            Statement(
                "few_pairs_are_refused",
                """
                select 'all pairs', avg((decision = 'refused')::integer) from identity.edges
                """,
                "Many records share an identifier and yet are different people; identity.demoted_identifiers shows the "
                "values that many share.",
                most=0.3,
                severity="warn",
            ),
        ),
    )
