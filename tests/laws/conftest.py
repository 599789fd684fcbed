"""The walk without its orchestration: the same functions and the same SQL, in a second or two."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dagster_project import transform
from dagster_project.domain.activation import write_files
from dagster_project.domain.countries import write_country_names
from dagster_project.domain.identity import resolve
from dagster_project.domain.landing import tables
from dagster_project.domain.landing.intake import take_in
from dagster_project.domain.phones import write_phone_numbers
from dagster_project.settings import Settings
from dagster_project.stages import ACCOUNT, AUDIENCE, SEGMENT, STAGES, STAGING


@dataclass(frozen=True)
class CompiledModel:
    """The SQL of one model as dbt made it for DuckDB."""

    stage: str
    name: str
    sql: str


@pytest.fixture(scope="session")
def compiled_models(tmp_path_factory: pytest.TempPathFactory, outside_environment: Any) -> list[CompiledModel]:
    """Every model in an order in which they can be built."""
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner

    home = tmp_path_factory.mktemp("compiled")
    with outside_environment():
        os.environ.update(transform.environment_of_run(Settings(home=home, threads=1)))
        try:
            result = dbtRunner().invoke(
                ["compile", *transform._arguments(home / "dbt"), "--select", "resource_type:model"]
            )
        finally:
            DuckDBConnectionManager.close_all_connections()
    assert result.success, result.exception
    return [CompiledModel(done.node.fqn[1], done.node.name, done.node.compiled_code) for done in result.result]


@pytest.fixture(scope="session")
def walk(compiled_models: list[CompiledModel]) -> Callable[..., Any]:
    """Walk a home's landing as far as a stage; yields the open warehouse. Audience files lie in ``audiences``."""

    @contextmanager
    def walked(home: Path, as_of: date, until: str = AUDIENCE) -> Iterator[duckdb.DuckDBPyConnection]:
        settings = Settings(home=home, threads=1)
        intake = take_in(
            settings.landing,
            settings.raw,
            settings.register,
            as_of=as_of,
            connect=duckdb.connect,
            workers=1,
            progress=lambda done, of: None,
        )
        with duckdb.connect(str(settings.warehouse)) as connection:
            connection.execute("set TimeZone = 'UTC'")
            connection.execute("set preserve_insertion_order = false")
            for stage in STAGES:
                connection.execute(f"create schema if not exists {stage}")
            connection.execute(
                """
                create or replace table landing.builds as
                select 'law' as build_id, $1::date as as_of, null::varchar as previous_release_id,
                    null::date as previous_as_of, 0.1::double as holdout_share, 'law' as holdout_salt,
                    'EUR' as currency, 'FR' as default_country
                """,
                [as_of],
            )
            tables.write_files(connection, intake.deliveries, as_of)
            tables.create_views(connection, settings.raw)
            tables.write_rejected_rows(connection)
            write_phone_numbers(connection, "FR")
            write_country_names(connection)
            for stage in (STAGING, ACCOUNT, SEGMENT, AUDIENCE):
                if STAGES.index(stage) > STAGES.index(until):
                    break
                if stage == ACCOUNT:
                    resolve(connection, as_of=as_of, run_id="law", previous=None)
                for model in compiled_models:
                    if model.stage == stage:
                        connection.execute(f"create or replace table {stage}.{model.name} as {model.sql}")
            if until == AUDIENCE:
                write_files(connection, home / "audiences")
            yield connection

    return walked
