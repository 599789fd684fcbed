"""The tables that the files are written from, small: who is in an audience, by which identifier, under which name."""

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

DESTINATIONS = ("email_tool", "google_customer_match", "meta_custom_audience")


@contextmanager
def audience_tables() -> Iterator[duckdb.DuckDBPyConnection]:
    """A database in memory with the audiences ``vip`` (all destinations) and ``win_back``, and nobody in them."""
    with duckdb.connect() as connection:
        connection.execute("set preserve_insertion_order = false")
        connection.execute("""
            create schema landing; create schema account; create schema audience;
            create table landing.builds (default_country varchar);
            insert into landing.builds values ('FR');
            create table audience.audiences (audience varchar, kind varchar, destinations varchar);
            insert into audience.audiences values
                ('vip', 'marketing', 'email_tool, google_customer_match, meta_custom_audience'),
                ('win_back', 'marketing', 'email_tool');
            create table audience.members (audience varchar, destination varchar, account_id varchar, arm varchar);
            create table audience.contact_points
                (kind varchar, destination varchar, account_id varchar, identifier_type varchar, identifier varchar,
                 position int);
            create table account.golden_records (account_id varchar, email varchar, phone varchar, first_name varchar,
                last_name varchar, postal_code varchar, country varchar, birth_date date);
        """)
        yield connection


def add(
    connection: duckdb.DuckDBPyConnection,
    account_id: str,
    *,
    emails: tuple[str, ...] = (),
    phones: tuple[str, ...] = (),
    post: str | None = None,
    golden: tuple[str | None, ...] = (None, None, None, None, None, None),
    birth_date: str | None = None,
    arm: str = "treated",
    audience: str = "vip",
    destinations: tuple[str, ...] = DESTINATIONS,
) -> None:
    """Put one account into an audience, with the identifiers that it allows and the golden record it has.

    ``golden`` holds e-mail, phone, first name, last name, postcode and country.
    """
    connection.execute(
        "insert into account.golden_records values (?, ?, ?, ?, ?, ?, ?, ?)", [account_id, *golden, birth_date]
    )
    for destination in destinations:
        connection.execute("insert into audience.members values (?, ?, ?, ?)", [audience, destination, account_id, arm])
        points = [("email", email) for email in emails] + [("phone", phone) for phone in phones]
        points += [("post", post)] if post else []
        for position, (identifier_type, identifier) in enumerate(points):
            if identifier_type == "email" or destination != "email_tool":
                connection.execute(
                    "insert into audience.contact_points values ('marketing', ?, ?, ?, ?, ?)",
                    [destination, account_id, identifier_type, identifier, position],
                )
