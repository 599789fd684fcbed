"""The limits that make the faults small, and the file that grows while it is read."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import pytest
from faults.catalogue import LIMIT_OF_ARCHIVES
from faults.shop import DAYS, growth
from faults.truth import File

LEDGER = ("transactions", "transaction_lines", "reconciliation")

from dagster_project.domain.landing import intake, reader


@pytest.fixture
def growing(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path, Iterable[File]], None]:
    """Have the files of a landing folder that grow do so when they have been read for the first time."""

    def arrange(landing: Path, files: Iterable[File]) -> None:
        waiting = {landing / file.path: growth(file) for file in files if file.growing}
        read_file = intake.read_file

        def read_and_append(connection: Any, found: Any, path: Path, *others: Any) -> Any:
            outcome = read_file(connection, found, path, *others)
            if path in waiting:
                with path.open("ab") as out:
                    out.write(waiting.pop(path))
            return outcome

        monkeypatch.setattr(intake, "read_file", read_and_append)

    return arrange


@pytest.fixture(autouse=True)
def small_archives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MOST_UNPACKED_BYTES", LIMIT_OF_ARCHIVES)


@pytest.fixture(scope="session")
def kept(walk: Any, compiled_models: Any) -> Callable[..., Any]:
    """Walk a home on a night as far as the ledger; yields the open warehouse.

    Everybody is anonymous there: matching people costs more than the rest, and no row or euro hangs on it.
    """
    models = [model for name in LEDGER for model in compiled_models if model.name == name]

    @contextmanager
    def walked(home: Path, night: int) -> Iterator[duckdb.DuckDBPyConnection]:
        with walk(home, DAYS[night], until="staging") as connection:
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
