"""The gate out of identity: is each record in one account, and has nothing been glued together that should not be?"""

from dagster_project.domain.identity import read_policy
from dagster_project.quality.statements import Statement, Suite

_LARGEST = """
    coalesce((
        select max(records) from (
            select count(*) as records
            from {links}
            where feed in ('shop_customers', 'loyalty_members')
            group by account_id
        )
    ), 0)
"""
# What may be identified: every order and ticket, tonight and in the last release.
_PURCHASES = """
    select 'shop_orders' as feed, order_id as record_id from staging.stg_shop_orders
    union all
    select 'pos_tickets', ticket_id from staging.stg_pos_tickets
"""
_LAST_PURCHASES = """
    select feed, record_id, links.account_id is not null as is_identified
    from previous.account.transactions as transactions
    left join previous.identity.account_links as links using (feed, record_id)
    where feed in ('shop_orders', 'pos_tickets')
"""


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
    growth = (
        f"""
        select 'web accounts and cards of the largest account',
            {_LARGEST.format(links="identity.account_links")}
            / greatest(5, {_LARGEST.format(links="previous.identity.account_links")})
        """
        if has_previous
        else "select 'web accounts and cards of the largest account', null"
    )
    identified = (
        f"""
        with purchases as ({_PURCHASES}),
        last_purchases as ({_LAST_PURCHASES}),
        tonight as (
            select feed, avg((links.account_id is not null)::integer) as share
            from purchases left join identity.account_links as links using (feed, record_id)
            group by feed
        ),
        before as (
            select feed, avg(is_identified::integer) as share from last_purchases group by feed
        )
        select feed, tonight.share / nullif(before.share, 0) from tonight join before using (feed)
        """
        if has_previous
        else "select 'all feeds', null"
    )
    newly_identified = (
        f"""
        with purchases as ({_PURCHASES}),
        last_purchases as ({_LAST_PURCHASES}),
        fresh as (
            select feed, avg((links.account_id is not null)::integer) as share
            from purchases
            anti join last_purchases using (feed, record_id)
            left join identity.account_links as links using (feed, record_id)
            group by feed
            having count(*) >= 100
        ),
        before as (
            select feed, avg(is_identified::integer) as share from last_purchases group by feed
        )
        select feed, fresh.share / nullif(before.share, 0) from fresh join before using (feed)
        """
        if has_previous
        else "select 'all feeds', null"
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
                "One account has swallowed many people: look at identity.edges of the largest account in the "
                "working database. A value that many share goes into blocked_values of the identifier policy; two "
                "people whom a weak pair joins get a steward's decision.",
                most=50,
            ),
            Statement(
                "the_largest_account_hardly_grows",
                growth,
                "The largest account holds more than twice the web accounts and cards that the last release's largest "
                "did (at least 5): look at its weakest link with «cocanal explain» before it becomes a crowd.",
                most=2,
                severity="warn",
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
                "More records than usual changed their account id; identity.account_events says why, and "
                "identity.account_link_history which.",
                most=0.001,
                severity="warn",
            ),
            Statement(
                "few_pairs_are_refused",
                """
                select 'all pairs', avg((decision = 'refused')::integer)
                from identity.edges
                where decision <> 'undecided'
                """,
                "Many records share something and yet are different people: count identity.edges by rule and reason; "
                "identity.shared_identifiers shows the values that several carry.",
                most=0.3,
                severity="warn",
            ),
            Statement(
                "records_are_compared",
                """
                select rule,
                    coalesce(sum(profile_count) filter (where outcome = 'not_compared'), 0)
                    / greatest(1, (select count(*) from identity.contacts))
                from identity.cut_blocks
                group by rule
                """,
                "Many records lie in blocks of this rule that are too large to compare, so some that are one person's "
                "stay apart: identity.cut_blocks. Look for a value that a form or a clerk writes everywhere; a policy "
                "with a larger max_block_profiles compares more and takes longer.",
                most=0.02,
                severity="warn",
            ),
            Statement(
                "few_accounts_hang_by_one_weak_pair",
                f"""
                with ends as (
                    select left_feed as feed, left_record_id as record_id, rule, weight
                    from identity.edges where decision = 'accepted'
                    union all
                    select right_feed, right_record_id, rule, weight from identity.edges where decision = 'accepted'
                ),
                hold as (
                    -- What a steward joined holds.
                    select feed, record_id, max(weight) as weight, bool_or(rule = 'decision') as is_decided
                    from ends group by feed, record_id
                ),
                accounts as (
                    select account_id,
                        bool_or(weight < {read_policy().bridge_weight} and not is_decided) as hangs
                    from hold join identity.account_links using (feed, record_id)
                    group by account_id
                )
                select 'accounts of several records', avg(hangs::integer) from accounts
                """,
                "Many accounts hold a record whose strongest accepted pair is a weak one (below bridge_weight of the "
                "policy). If the model or the policy changed, compare with «cocanal identity diff»; else let a "
                "steward look: «cocanal identity review».",
                most=0.05,
                severity="warn",
            ),
            Statement(
                "as_many_purchases_are_identified_as_before",
                identified,
                "The share of orders or tickets that have an account has moved against the last release (the number is "
                "the ratio): account.recognition says in which shops and weeks. A changed policy or model moves all of "
                "them, a demoted value some.",
                least=0.95,
                most=1.05,
                severity="warn",
            ),
            Statement(
                "new_purchases_are_identified_as_usual",
                newly_identified,
                "Far fewer of the new orders or tickets have an account than of the older ones (the number is the "
                "ratio): look whether a till or the web shop has stopped sending cards, e-mails or customer numbers.",
                least=0.5,
                severity="warn",
            ),
        ),
    )
