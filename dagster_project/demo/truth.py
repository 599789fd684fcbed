"""What is true of the generated world, written beside the deliveries and never among them.

``records.csv``: one row per person-bearing record (web account, card, order, ticket that shows an identifier): whose
identifiers it carries. ``persons.csv``: one row per person. ``transactions.csv``: one row per order, ticket and refund:
who bought, whose key it carries where that is somebody else, what counts and when, as of the last night.
``consents.csv``: one row per statement of consent and who made it.
"""

from pathlib import Path

import duckdb

_TABLES = {
    "records": "select feed, record_id, person_id, household_id, scenario from record_truth order by feed, record_id",
    "persons": (
        "select person_id, household_id, scenario, first_name, last_name, married_name, birth_date, sex"
        " from person_truth order by person_id"
    ),
    "transactions": (
        "select feed, record_id, person_id, key_owner_person_id, counted_amount, channel, business_on"
        " from transaction_truth order by feed, record_id"
    ),
    "consents": (
        "select person_id, consent_id, feed, record_id, key_type, purpose, channel, status,"
        " strftime(occurred_at, '%Y-%m-%dT%H:%M:%SZ') as occurred_at from consent_truth order by consent_id"
    ),
}


def write_truth(con: duckdb.DuckDBPyConnection, truth: Path) -> None:
    """Write the four tables as CSV (UTF-8, comma, header)."""
    truth.mkdir(parents=True, exist_ok=True)
    for name, sql in _TABLES.items():
        con.execute(f"copy ({sql}) to '{truth / name}.csv' (format csv, header)")
