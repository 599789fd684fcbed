"""Which account every record belongs to, by which rule, and how sure that is.

What belongs here: the way from clusters of contacts to records. What does not: what the account is called
(``stable_ids.py``); here it still goes by its cluster, a number that lives for one build only.
"""

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.policy import Policy


def attribute(connection: DuckDBPyConnection, policy: Policy) -> None:
    """Write ``identity_attributed``: one row per record that has an account.

    Columns: feed, record_id, feed_rank, seen_at, component, rule, confidence, is_person_record. Web accounts, cards and
    guest orders found accounts; a ticket, or the order of an unknown customer, does so only where nobody else did.

    Order of the keys: an order's customer number; a ticket's card, then what else the ticket says, e-mail before phone;
    last, where a transaction carries none of these, its payment token.
    """
    name_and_address = policy.name_and_address_confidence
    connection.execute(
        """
        create or replace temp table identity_homes as
        -- Whom a number stands for: its owner; without one, the only person it was seen with. Of an unknown customer's
        -- several recipients the first one stands for the number.
        with numbers as (
            select * from identity_uses_resolved where type in ('customer_id', 'card') and not is_demoted
        ),
        lonely as (
            select value_id from numbers where person is not null
            group by value_id having min(person) = max(person)
        )
        select uses.type, vals.value, uses.contact_id
        from numbers as uses
        join identity_values as vals using (value_id)
        left join lonely using (value_id)
        where uses.is_owner
            or (uses.person is not null and (uses.type = 'customer_id' or lonely.value_id is not null))
        qualify row_number() over (
            partition by value_id order by uses.is_owner desc, uses.given_name_key is null, uses.contact_id
        ) = 1
        """
    )
    connection.execute(
        f"""
        create or replace temp table identity_reached as
        -- How a contact without a number of its own is tied to its cluster: the strongest usable identifier that other
        -- contacts of the cluster share, else the strongest at all, else its full name and address.
        with usable as (
            select uses.contact_id, uses.type, uses.value_id, uses.person, labels.component
            from identity_uses_resolved as uses join identity_labels as labels using (contact_id)
            where not uses.is_demoted and uses.person is not null and uses.contact_count > 1
        ),
        shared as (
            select value_id, person, component from usable group by all having count(*) > 1
        ),
        numberless as (
            select contact_id from identity.contacts where customer_id is null and feed <> 'loyalty_members'
        ),
        ways as (
            select uses.contact_id, uses.type as rule, confidence, strength, shared.value_id is not null as is_tied
            from identity_uses_resolved as uses
            join numberless using (contact_id)
            join identity_labels as labels using (contact_id)
            join identity.identifier_policies using (type)
            left join shared
                on shared.value_id = uses.value_id and shared.person = uses.person
                and shared.component = labels.component
            where not uses.is_demoted and uses.person is not null
            union all
            select contact_id, 'name_and_address', {name_and_address}, 0, false
            from identity.contacts
            where feed = 'shop_orders' and customer_id is null
                and given_name_key is not null and family_name_key is not null and address_key is not null
                and coalesce(postal_code, city) is not null
        )
        select * from ways
        qualify row_number() over (partition by contact_id order by is_tied desc, strength desc) = 1
        """
    )
    connection.execute(
        """
        create or replace temp table identity_keyed as
        with numbered as (
            select
                *,
                case
                    when feed = 'shop_orders' and customer_id is not null then 'customer_id'
                    when feed = 'pos_tickets' and card_id is not null then 'card'
                end as type,
                case feed when 'shop_orders' then customer_id when 'pos_tickets' then card_id end as value,
                feed in ('shop_customers', 'loyalty_members') as is_own
            from identity_keys
        ),
        homed as (
            select
                numbered.*,
                case
                    when is_own then numbered.contact_id
                    else coalesce(homes.contact_id, reached.contact_id)
                end as home,
                case
                    when feed = 'shop_customers' then 'customer_id'
                    when feed = 'loyalty_members' then 'card'
                    when homes.contact_id is not null then homes.type
                    else reached.rule
                end as rule,
                case
                    when is_own then 1.0
                    when homes.contact_id is not null then policies.confidence
                    else reached.confidence
                end as confidence
            from numbered
            left join identity_homes as homes using (type, value)
            left join identity.identifier_policies as policies using (type)
            left join identity_reached as reached on reached.contact_id = numbered.contact_id
        )
        select
            homed.feed, homed.feed_rank, homed.record_id, homed.seen_at, homed.payment_token, labels.component,
            homed.rule, homed.confidence,
            is_own or (homed.feed = 'shop_orders' and homed.customer_id is null) as is_founder
        from homed join identity_labels as labels on labels.contact_id = homed.home
        """
    )
    connection.execute(
        f"""
        create or replace temp table identity_attributed as
        with founded as (
            select component, bool_or(is_founder) as has_founder from identity_keyed group by component
        ),
        tokens as (
            select payment_token, min(component) as component
            from identity_keyed
            where payment_token is not null
            group by payment_token
            having count(*) >= {policy.token_min_uses} and count(distinct component) = 1
        ),
        usable_tokens as (
            select tokens.*
            from tokens
            join (
                select payment_token
                from identity_keys
                group by payment_token
                having count(*) <= {policy.token_max_uses}
            ) using (payment_token)
        ),
        bare as (
            select feed, feed_rank, record_id, seen_at, payment_token
            from identity_keys
            where contact_id is null and payment_token is not null
        )
        select
            keyed.* exclude (payment_token, is_founder),
            keyed.is_founder or not founded.has_founder as is_person_record
        from identity_keyed as keyed join founded using (component)
        union all
        select
            bare.* exclude (payment_token), usable_tokens.component, 'payment_token', {policy.token_confidence}, false
        from bare join usable_tokens using (payment_token)
        """
    )
