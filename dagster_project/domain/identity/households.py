"""Households: accounts of different people who live together or share an e-mail or a phone. Never a merge."""

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.clustering import connect
from dagster_project.domain.identity.policy import Policy


def build_households(connection: DuckDBPyConnection, policy: Policy) -> None:
    """Write ``identity.households``: one row per account that shares a household, with the strongest reason.

    Reasons, strongest first: ``address_and_name`` (one address, one family name), ``shared_email`` and ``shared_phone``
    (a value that two accounts carry and that did not join them). The household is named after the smallest anchor key
    of its accounts.
    """
    connection.execute(
        f"""
        create or replace temp table household_shares as
        with people as (
            select labels.component, contacts.contact_id, address_key, family_name_key,
                coalesce(postal_code, lower(strip_accents(city))) as town
            from identity.contacts as contacts
            join identity_labels as labels using (contact_id)
            semi join identity_anchored as anchored on anchored.component = labels.component
        ),
        addresses as (
            select address_key, town, family_name_key, component
            from people
            where address_key is not null and town is not null and family_name_key is not null
            group by all
        ),
        shared_addresses as (
            select address_key, town, family_name_key, row_number() over () as value_id
            from addresses
            group by address_key, town, family_name_key
            having count(*) between 2 and {policy.household_max_accounts}
        ),
        shared_values as (
            select value_id, type, component
            from identity_uses_resolved join people using (contact_id)
            where type in ('email', 'phone') and not is_demoted and contact_count > 1
            group by value_id, type, component
            qualify count(*) over (partition by value_id) between 2 and {policy.household_max_accounts}
        ),
        shares as (
            select 1 as rank, 'address_and_name' as reason, value_id, component
            from addresses join shared_addresses using (address_key, town, family_name_key)
            union all
            select case type when 'email' then 2 else 3 end, 'shared_' || type, value_id, component from shared_values
        )
        select rank, reason, component, min(component) over (partition by reason, value_id) as head from shares
        """
    )
    connection.execute(
        "create or replace temp table household_pairs as select head as l, component as r from household_shares"
    )
    connect(connection, "household_pairs", "household_components")
    connection.execute(
        """
        create or replace table identity.households as
        with reasons as (
            select component, arg_min(reason, rank) as reason from household_shares group by component
        ),
        members as (
            select households.component as household, reasons.reason, anchored.anchor_key, names.account_id
            from reasons
            join household_components as households on households.node = reasons.component
            join identity_anchored as anchored on anchored.component = reasons.component
            join identity_names as names on names.component = reasons.component
        )
        select 'H' || upper(left(sha256(min(anchor_key) over (partition by household)), 16)) as household_id,
            account_id, reason
        from members
        """
    )
