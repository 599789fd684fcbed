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
        with accounts as (
            select anchored.component, anchored.anchor_key, labels.contact_id
            from identity_anchored as anchored join identity_labels as labels using (component)
        ),
        shares as (
            select distinct 1 as rank, 'address_and_name' as reason, component, anchor_key,
                address_key || '|' || coalesce(postal_code, lower(strip_accents(city))) || '|' || family_name_key as value
            from accounts join identity.contacts using (contact_id)
            where value is not null
            union all
            select distinct case type when 'email' then 2 else 3 end, 'shared_' || type, component, anchor_key, cast(value_id as varchar)
            from accounts join identity_uses_resolved using (contact_id)
            where type in ('email', 'phone') and not is_demoted and contact_count > 1
        )
        select *, first_value(component) over (partition by reason, value order by anchor_key) as head
        from shares
        qualify count(*) over (partition by reason, value) between 2 and {policy.household_max_accounts}
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
