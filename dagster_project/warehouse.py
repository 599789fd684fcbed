"""Short-lived connections to the working database: the only module of the pipeline that opens it.

DuckDB lets one process write. So a connection is opened for one step and closed at its end, and nobody but the run ever
opens the file: people read releases. Not for SQL: that is the domain's and dbt's.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import duckdb

from dagster_project.domain.identity.remembered import SCHEMA as REMEMBERED
from dagster_project.domain.sql_literal import literal
from dagster_project.run_lock import HomeIsUnusable, run_lock
from dagster_project.settings import Settings
from dagster_project.stages import STAGES


class Warehouse:
    """The working database of one home."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def path(self) -> Path:
        return self._settings.warehouse

    def start_afresh(self, *, forgets: bool = False) -> None:
        """Drop every table, for a build makes all of them; but what the identity stage remembers stays, unless the
        build ``forgets``. A damaged file goes as a whole; who has the old one open keeps reading it.
        """
        files = (self.path, self.path.with_name(self.path.name + ".wal"))
        for path in files:
            if path.is_dir() and not path.is_symlink():
                raise HomeIsUnusable(f"{path} is a folder, but the working database belongs there: move it away.")
        if forgets or not self._is_cleared():
            for path in files:
                path.unlink(missing_ok=True)
        # What a killed run had spilled is nobody's.
        if self._settings.spill.is_dir():
            shutil.rmtree(self._settings.spill)

    def _is_cleared(self) -> bool:
        """Drop all but what is remembered; False where there is no database, or none that can be read."""
        if not self.path.exists():
            return False
        try:
            with self._opened() as connection:
                for (schema,) in connection.execute(
                    "select schema_name from duckdb_schemas() where not internal and database_name = current_database()"
                ).fetchall():
                    if schema not in ("main", REMEMBERED):
                        connection.execute(f'drop schema "{schema}" cascade')
                # The blocks that are free now are used again: without this the file would grow with every night.
                connection.execute("checkpoint")
        except duckdb.Error:
            return False
        return True

    @contextmanager
    def session(self, purpose: str) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection with every schema of the walk, closed at the end. ``purpose`` names the step, such as
        ``identity`` or ``identity gate``. Raises HomeIsBusy where another process runs in the home: so a step that is
        run by hand does not break into a night.
        """
        with run_lock(self._settings.lock), self._opened() as connection:
            yield connection

    @contextmanager
    def _opened(self) -> Iterator[duckdb.DuckDBPyConnection]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        is_new = not self.path.exists()
        connection = duckdb.connect(str(self.path))
        try:
            if is_new:
                os.chmod(self.path, 0o600)
            connection.execute("set TimeZone = 'UTC'")
            connection.execute("set preserve_insertion_order = false")
            connection.execute(f"set threads = {self._settings.threads}")
            connection.execute(f"set memory_limit = '{self._settings.memory_limit}'")
            self._spill_into_the_home(connection)
            for stage in STAGES:
                connection.execute(f"create schema if not exists {stage}")
            yield connection
        finally:
            connection.close()

    @contextmanager
    def read_only(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection that only reads, for a person who looks into a stopped night. The caller holds the run lock: a
        run could not open the file meanwhile. Raises duckdb.IOException where it is absent or damaged.
        """
        connection = duckdb.connect(str(self.path), read_only=True)
        try:
            yield connection
        finally:
            connection.close()

    def _spill_into_the_home(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._settings.spill.mkdir(mode=0o700, parents=True, exist_ok=True)
        connection.execute(f"set temp_directory = {literal(self._settings.spill)}")

    @contextmanager
    def scratch(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A connection to no file, for reading deliveries; what does not fit into memory spills into the home."""
        connection = duckdb.connect()
        try:
            connection.execute("set TimeZone = 'UTC'")
            connection.execute(f"set threads = {self._settings.threads}")
            connection.execute(f"set memory_limit = '{self._settings.memory_limit}'")
            self._spill_into_the_home(connection)
            yield connection
        finally:
            connection.close()
