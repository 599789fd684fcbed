"""A night as far as the ledger, in half a second."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
from faults.catalogue import MOST_UNPACKED_BYTES
from faults.shop import DAYS

LEDGER = ("transactions", "transaction_lines", "reconciliation")


@pytest.fixture(scope="session")
def kept(walk: Any, compiled_models: Any) -> Callable[..., Any]:
    """Walk a home on a night as far as the ledger; yields the open warehouse.

    Everybody is anonymous there: matching people costs more than the rest, and no row or euro hangs on it.
    """
    models = [model for name in LEDGER for model in compiled_models if model.name == name]

    @contextmanager
    def walked(home: Path, night: int) -> Iterator[duckdb.DuckDBPyConnection]:
        with walk(home, DAYS[night], until="staging", most_unpacked_bytes=MOST_UNPACKED_BYTES) as connection:
            connection.execute(
                """
                create or replace table identity.account_links (
                    feed varchar, record_id varchar, account_id varchar, rule varchar, confidence double
                )
                """
            )
            for model in models:
                connection.execute(f"create or replace table {model.stage}.{model.name} as {model.sql}")
            yield connection

    return walked
