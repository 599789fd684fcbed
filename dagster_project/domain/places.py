"""Where French postcodes lie, from the list in ``reference/``. Not who lives there: that is ``account.places``."""

from pathlib import Path

import duckdb

from dagster_project.domain.sql_literal import literal

_PLACES = Path(__file__).with_name("reference") / "postal_places.csv"


def write_postal_places(connection: duckdb.DuckDBPyConnection) -> int:
    """Write ``staging.postal_places``: one row per postcode of France, in degrees; returns how many."""
    connection.execute(
        f"""
        create or replace table staging.postal_places as
        select postal_code, town, latitude, longitude
        from read_csv(
            {literal(_PLACES)}, header = true,
            columns = {{postal_code: 'varchar', town: 'varchar', latitude: 'double', longitude: 'double'}}
        )
        """
    )
    ((count,),) = connection.execute("select count(*) from staging.postal_places").fetchall()
    return count
