"""The gate out of audience: may each of these people be contacted, and is everyone who is not accounted for?

Consent is judged here a second time, straight from the staged statements and without the models that decided it.
"""

from dagster_project.quality.statements import Statement, Suite

# Every statement that reaches an e-mail address or a telephone number, straight from staging.
_STATEMENTS = """
    with given as (
        select
            case when key_type in ('email', 'phone') then key_type end as identifier_type, key_value as identifier,
            key_type, key_value, purpose, channel, status, occurred_at
        from staging.stg_consents
    ),
    statements as (
        select identifier_type, identifier, purpose, channel, status, occurred_at
        from given
        where key_type in ('email', 'phone')
        union all
        select 'email', people.email, given.purpose, given.channel, given.status, given.occurred_at
        from given
        join staging.stg_shop_customers as people
            on given.key_type = 'customer_id' and given.key_value = people.customer_id
        where people.email is not null
        union all
        select 'phone', people.phone, given.purpose, given.channel, given.status, given.occurred_at
        from given
        join staging.stg_shop_customers as people
            on given.key_type = 'customer_id' and given.key_value = people.customer_id
        where people.phone is not null
        union all
        select 'email', people.email, given.purpose, given.channel, given.status, given.occurred_at
        from given
        join staging.stg_loyalty_members as people on given.key_type = 'card_id' and given.key_value = people.card_id
        where people.email is not null
        union all
        select 'phone', people.phone, given.purpose, given.channel, given.status, given.occurred_at
        from given
        join staging.stg_loyalty_members as people on given.key_type = 'card_id' and given.key_value = people.card_id
        where people.phone is not null
        union all
        select
            case when address like '%@%' then 'email' else 'phone' end, address, 'prospecting', channel, 'withdrawn',
            occurred_at
        from staging.stg_message_events
        where event in ('unsubscribed', 'complained')
    )
"""


def suite(has_previous: bool) -> Suite:
    """The audience gate; ``has_previous`` says whether the last release is attached as ``previous``."""
    change = (
        """
        with tonight as (
            select audience, destination, count(*) as member_count from audience.members group by all
        ),
        before as (
            select audience, destination, count(*) as member_count
            from previous.audience.members
            group by all
            having count(*) >= 100
        )
        select before.audience || ' for ' || before.destination,
            coalesce(tonight.member_count, 0) / before.member_count
        from before
        left join tonight using (audience, destination)
        """
        if has_previous
        else "select 'all audiences', null"
    )
    return Suite(
        stage="audience",
        asset="audience.members",
        statements=(
            Statement(
                "nobody_is_contacted_without_consent",
                f"""
                {_STATEMENTS},
                points as (
                    select points.*, destinations.purpose, destinations.channel
                    from audience.contact_points as points
                    join audience.destinations as destinations using (destination)
                    where points.identifier_type in ('email', 'phone')
                ),
                latest as (
                    select
                        points.destination, points.identifier_type, points.identifier,
                        max(statements.occurred_at) as occurred_at,
                        max(statements.occurred_at) filter (where statements.status = 'granted') as granted_at,
                        max(statements.occurred_at) filter (where statements.status <> 'granted') as refused_at
                    from (
                        select distinct destination, identifier_type, identifier, purpose, channel from points
                    ) as points
                    left join statements
                        on statements.identifier_type = points.identifier_type
                        and statements.identifier = points.identifier
                        and statements.purpose = points.purpose
                        and (statements.channel = points.channel or statements.channel = 'any' )
                    group by points.destination, points.identifier_type, points.identifier
                )
                select destination,
                    count(*) filter (
                        where granted_at is null or (refused_at is not null and refused_at >= granted_at)
                    )
                from latest
                group by destination
                """,
                "Someone would be contacted whose last word is not a granted consent. This gate cannot be accepted: "
                "look at account.identifier_consents.",
                most=0,
                is_acceptable=False,
            ),
            Statement(
                "every_member_has_a_permitted_identifier",
                """
                select members.destination, count(*)
                from audience.members as members
                where not exists (
                    select 1 from audience.contact_points as points
                    where points.destination = members.destination and points.account_id = members.account_id
                )
                group by members.destination
                """,
                "A member has no identifier that may leave the house. This gate cannot be accepted.",
                most=0,
                is_acceptable=False,
            ),
            Statement(
                "nobody_who_asked_for_erasure_or_objected_is_in",
                """
                with refusing as (
                    select key_type, key_value from staging.stg_privacy_requests where kind in ('erasure', 'objection')
                ),
                points as (
                    select points.destination, identifiers.identifier_type, identifiers.identifier
                    from audience.contact_points as points
                    join account.identifiers as identifiers using (account_id)
                ),
                records as (
                    select members.destination, links.feed, links.record_id
                    from (select distinct destination, account_id from audience.members) as members
                    join identity.account_links as links using (account_id)
                )
                select 'by e-mail or phone', count(*)
                from points
                join refusing on refusing.key_type = points.identifier_type and refusing.key_value = points.identifier
                union all
                select 'by web account or card', count(*)
                from records
                join refusing
                    on refusing.key_value = records.record_id
                    and (
                        (refusing.key_type = 'customer_id' and records.feed = 'shop_customers')
                        or (refusing.key_type = 'card_id' and records.feed = 'loyalty_members')
                    )
                """,
                "Someone who asked to be forgotten or objected is in an audience. This gate cannot be accepted.",
                most=0,
                is_acceptable=False,
            ),
            Statement(
                "qualified_is_kept_plus_excluded",
                """
                with counted as (
                    select audience, destination, 1 as qualified, 0 as placed from audience.candidates
                    union all
                    select audience, destination, 0, 1 from audience.members
                    union all
                    select audience, destination, 0, 1 from audience.waterfall
                )
                select audience || ' for ' || destination, abs(sum(qualified) - sum(placed)) from counted group by all
                """,
                "People who qualified are neither kept nor excluded with a reason, or both.",
                most=0,
                is_acceptable=False,
            ),
            Statement(
                "no_audience_jumps",
                change,
                "An audience has less than a tenth or more than ten times of the people of the last release; the "
                "number is the ratio. If that is meant, run with --accept audience --because «…».",
                least=0.1,
                most=10,
            ),
            Statement(
                "audiences_keep_their_size",
                change,
                "An audience has halved or doubled since the last release; the number is the ratio.",
                least=0.5,
                most=2,
                severity="warn",
            ),
        ),
    )
