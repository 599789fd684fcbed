"""What identity remembers in the working database saves work, and is never believed where it cannot be read."""

from datetime import date

import duckdb
import pytest

from dagster_project.domain.identity import resolve
from dagster_project.settings import load_settings
from dagster_project.warehouse import Warehouse

AS_OF = date(2020, 7, 1)
_HEADERS, _BLOCK = 3 * 4096, 262_144
"""A DuckDB file: three headers, then blocks of this size."""


@pytest.fixture
def warehouse(tmp_path):
    return Warehouse(load_settings(home=tmp_path))


@pytest.fixture
def stage(staging_database):
    """Put the staging tables of some web accounts into an open working database."""

    def run(connection, numbers):
        rows = [
            {
                "customer_id": f"C{n}", "created_at": "2019-01-01", "first_name": "Ana", "last_name": "Roux",
                "email": f"mail{n % 40}@mail.example", "address_line1": f"{n} rue Basse", "postal_code": "69001",
            }
            for n in numbers
        ]  # fmt: skip
        staged = staging_database({"shop_customers": rows})
        for (table,) in staged.execute(
            "select table_name from duckdb_tables() where schema_name = 'staging'"
        ).fetchall():
            connection.register("staged", staged.sql(f"from staging.{table}").to_arrow_table())
            connection.execute(f"create or replace table staging.{table} as from staged")
            connection.unregister("staged")

    return run


def night(connection, **said):
    return resolve(connection, as_of=AS_OF, run_id="run", previous=None, **said)


def tables(connection):
    names = connection.execute(
        "select table_name from information_schema.tables where table_schema = 'identity' order by all"
    ).fetchall()
    return {name: connection.execute(f"from identity.{name} order by all").fetchall() for (name,) in names}


def damage(path, connection, table):
    """Turn bytes in the middle of every block that holds a column of the table."""
    blocks = connection.execute(f"select distinct block_id from pragma_storage_info('{table}') where block_id >= 0")
    places = [_HEADERS + block * _BLOCK + 1_000 for (block,) in blocks.fetchall()]
    connection.close()
    content = bytearray(path.read_bytes())
    for place in places:
        for byte in range(place, min(place + 64, len(content))):
            content[byte] ^= 0xFF
    path.write_bytes(content)
    return len(places)


@pytest.mark.parametrize("table", ["contacts", "account_links"])
def test_a_damage_in_what_is_remembered_costs_time_and_nothing_else(warehouse, stage, table):
    with warehouse.session("first") as connection:
        stage(connection, range(400))
        night(connection)
        connection.execute("checkpoint")
    with duckdb.connect(str(warehouse.path)) as connection:
        assert damage(warehouse.path, connection, f"remembered.{table}")
    with duckdb.connect() as connection:
        connection.execute("create schema staging")
        stage(connection, range(1, 410))
        night(connection)
        expected = tables(connection)

    told = []
    with warehouse.session("second") as connection:
        stage(connection, range(1, 410))
        night(connection, announce=told.append)
        assert tables(connection) == expected
    assert [word for word in told if "cannot be read" in word]


def test_a_build_begins_with_nothing_but_what_identity_remembers(warehouse, stage):
    with warehouse.session("first") as connection:
        stage(connection, range(20))
        night(connection)
    warehouse.start_afresh()
    with warehouse.session("second") as connection:
        schemas = {
            schema for (schema,) in connection.execute("select distinct schema_name from duckdb_tables()").fetchall()
        }
        assert schemas == {"remembered"}
        stage(connection, range(20))
        assert night(connection).scored_pairs == 0
    warehouse.start_afresh(forgets=True)
    assert not warehouse.path.exists()


def test_a_working_database_does_not_grow_from_night_to_night(warehouse, stage):
    """The blocks of what was dropped are used again."""
    sizes = []
    for number in range(6):
        warehouse.start_afresh()
        with warehouse.session("night") as connection:
            stage(connection, range(number, number + 300))
            night(connection)
            connection.execute("checkpoint")
        sizes.append(warehouse.path.stat().st_size)
    assert max(sizes[1:]) < 2 * sizes[0]
