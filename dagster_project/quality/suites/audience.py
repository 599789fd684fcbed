"""The gate out of audience: may each of these people be contacted, and is everyone who is not accounted for?

What protects people is judged here a second time, straight from the staged statements, requests and birth dates and
without the models that decided it.
"""

from collections.abc import Mapping
from typing import Any

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
            case when address like '%@%' then 'email' else 'phone' end, address, 'prospecting',
            case when lower(channel) in ('email', 'sms', 'phone', 'post', 'push') then lower(channel) else 'any' end,
            'withdrawn', occurred_at
        from staging.stg_message_events
        where event in ('unsubscribed', 'complained')
    )
"""


# When the identifiers of tonight's contact points were last granted and last refused, by those statements.
_LAST_WORDS = f"""
    {_STATEMENTS},
    points as (
        select points.*, destinations.purpose, destinations.channel, destinations.is_partner
        from audience.contact_points as points
        join audience.destinations as destinations using (destination)
        where points.kind = 'marketing' and points.identifier_type in ('email', 'phone')
    ),
    asked as (
        select distinct destination, identifier_type, identifier, purpose, channel from points
        union
        select distinct destination, identifier_type, identifier, 'partners', 'any' from points where is_partner
    ),
    last_words as (
        select
            asked.destination, asked.identifier_type, asked.identifier, asked.purpose,
            max(statements.occurred_at) filter (where statements.status = 'granted') as granted_at,
            max(statements.occurred_at) filter (where statements.status <> 'granted') as refused_at
        from asked
        left join statements
            on statements.identifier_type = asked.identifier_type
            and statements.identifier = asked.identifier
            and statements.purpose = asked.purpose
            and (statements.channel = asked.channel or statements.channel = 'any')
        group by all
    )
"""

# The accounts that privacy requests of a kind concern, by the keys that their records hold.
_REQUESTS = """
    requests as (
        select links.account_id, requests.kind, requests.received_at
        from staging.stg_privacy_requests as requests
        join identity.account_links as links
            on requests.key_value = links.record_id
            and (
                (requests.key_type = 'customer_id' and links.feed = 'shop_customers')
                or (requests.key_type = 'card_id' and links.feed = 'loyalty_members')
            )
        union all
        select identifiers.account_id, requests.kind, requests.received_at
        from staging.stg_privacy_requests as requests
        join account.identifiers as identifiers
            on requests.key_type = identifiers.identifier_type and requests.key_value = identifiers.identifier
    )
"""


def suite(has_previous: bool, variables: Mapping[str, Any]) -> Suite:
    """The audience gate; ``has_previous`` says whether the last release is attached as ``previous``.

    ``variables`` are the vars of dbt_project.yml: the rules that the models were built by.
    """
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
        left join audience.audiences as audiences using (audience)
        where not coalesce(audiences.is_review_overdue, false)
        """
        if has_previous
        else "select 'all audiences', null"
    )
    never = "This gate cannot be accepted."
    return Suite(
        stage="audience",
        asset="audience.members",
        statements=(
            Statement(
                "nobody_is_contacted_without_consent",
                f"""
                {_LAST_WORDS}
                select destination,
                    count(*) filter (
                        where granted_at is null or (refused_at is not null and refused_at >= granted_at)
                    )
                from last_words
                group by destination
                """,
                f"Someone would be contacted whose last word is not a granted consent. {never} "
                "Look at account.identifier_consents.",
                most=0,
                is_acceptable=False,
            ),
            Statement(
                "every_member_has_a_permitted_identifier",
                """
                select members.destination, count(*)
                from audience.members as members
                join audience.audiences as audiences using (audience)
                where not exists (
                    select 1 from audience.contact_points as points
                    where points.kind = audiences.kind
                        and points.destination = members.destination and points.account_id = members.account_id
                )
                group by members.destination
                """,
                f"A member has no identifier that may leave the house. {never}",
                most=0,
                is_acceptable=False,
            ),
            Statement(
                "nobody_who_asked_for_erasure_is_in",
                f"""
                with {_REQUESTS}
                select members.audience, count(*)
                from (select distinct audience, account_id from audience.members) as members
                semi join (select * from requests where kind = 'erasure') as erasures using (account_id)
                group by members.audience
                """,
                f"Someone who asked to be forgotten is in an audience. {never}",
                most=0,
                is_acceptable=False,
            ),
            Statement(
                "nobody_who_objected_is_in_unless_they_agreed_again",
                f"""
                {_LAST_WORDS},
                {_REQUESTS},
                objections as (
                    select account_id, max(received_at) as objected_at
                    from requests
                    where kind = 'objection'
                    group by account_id
                )
                select points.destination, count(*) filter (where last_words.granted_at <= objections.objected_at)
                from points
                join objections using (account_id)
                join last_words
                    on last_words.destination = points.destination
                    and last_words.identifier_type = points.identifier_type
                    and last_words.identifier = points.identifier
                    and (
                        last_words.purpose = points.purpose
                        or (points.is_partner and last_words.purpose = 'partners')
                    )
                group by points.destination
                """,
                f"Someone who objected would be contacted by an identifier that was not agreed to since. {never}",
                most=0,
                is_acceptable=False,
            ),
            Statement(
                "nobody_in_a_marketing_audience_is_too_young",
                f"""
                with people as (
                    select 'shop_customers' as feed, customer_id as record_id, birth_date
                    from staging.stg_shop_customers
                    union all
                    select 'loyalty_members', card_id, birth_date from staging.stg_loyalty_members
                ),
                minors as (
                    select distinct links.account_id
                    from people
                    join identity.account_links as links using (feed, record_id)
                    where people.birth_date > (
                        select max(as_of) - interval {int(variables["minimum_age"])} year from landing.builds
                    )
                )
                select members.audience, count(*)
                from audience.members as members
                join audience.audiences as audiences using (audience)
                semi join minors using (account_id)
                where audiences.kind = 'marketing'
                group by members.audience
                """,
                f"A record of a member says a birth date below the minimum age. {never}",
                most=0,
                is_acceptable=False,
            ),
            Statement(
                "nobody_who_refused_profiling_is_in_an_audience_built_on_it",
                f"""
                {_STATEMENTS},
                said as (
                    select
                        identifier_type, identifier,
                        max(occurred_at) filter (where status = 'granted' and channel = 'any') as granted_at,
                        max(occurred_at) filter (where status <> 'granted') as refused_at
                    from statements
                    where purpose = 'profiling'
                    group by all
                ),
                refusing as (
                    select distinct identifiers.account_id
                    from account.identifiers as identifiers
                    join said using (identifier_type, identifier)
                    where said.refused_at is not null
                        and (said.granted_at is null or said.refused_at >= said.granted_at)
                )
                select members.audience, count(*)
                from audience.members as members
                join audience.audiences as audiences using (audience)
                semi join refusing using (account_id)
                where audiences.kind = 'marketing' and audiences.is_profiling
                group by members.audience
                """,
                f"Someone who refused profiling is in an audience that is built on it. {never}",
                most=0,
                is_acceptable=False,
            ),
            Statement(
                "nobody_gets_the_messages_of_two_audiences",
                """
                with messages as (
                    select members.account_id, count(distinct members.audience) as audience_count
                    from audience.members as members
                    join audience.audiences as audiences using (audience)
                    join audience.destinations as destinations using (destination)
                    where audiences.kind = 'marketing' and destinations.is_for_messages
                    group by members.account_id
                )
                select 'accounts', count(*) filter (where audience_count > 1) from messages
                """,
                "Someone would get the messages of two marketing audiences: look at audience.selected.",
                most=0,
                is_acceptable=False,
            ),
            Statement(
                "no_third_party_gets_too_few_people",
                """
                select members.audience || ' for ' || members.destination,
                    (count(*) filter (where members.arm = 'treated') < any_value(audiences.minimum_size))::integer
                from audience.members as members
                join audience.audiences as audiences using (audience)
                join audience.destinations as destinations using (destination)
                where audiences.kind = 'marketing' and destinations.is_third_party
                group by members.audience, members.destination
                """,
                f"A file for a third party holds fewer people than its audience's minimum size. {never}",
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
                "An audience has halved or doubled since the last release; the number is the ratio. audience.changes "
                "says who came and went, and why.",
                least=0.5,
                most=2,
                severity="warn",
            ),
            Statement(
                "audiences_were_reviewed_in_time",
                """
                select audience, (select max(as_of) from landing.builds) - review_on
                from audience.audiences
                """,
                "The day of review has passed, the number is how many days ago: nobody of the audience leaves the "
                "house. Its owner looks at it and moves review_on in its YAML, or takes it out of vars: audiences.",
                most=0,
                severity="warn",
            ),
        ),
    )
