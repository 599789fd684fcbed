"""The examples in the models' YAML hold: dbt's own unit tests, which need the relations of a built warehouse."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from dagster_project import transform


@pytest.fixture(scope="module")
def outcomes(base_home: Path, tmp_path_factory: Any, settings_of: Any, outside_environment: Any) -> dict[str, str]:
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner

    home = tmp_path_factory.mktemp("unit_tests")
    shutil.copy(base_home / "warehouse.duckdb", home)
    with outside_environment():
        os.environ.update(transform.environment_of_run(settings_of(home)))
        try:
            result = dbtRunner().invoke(["test", *transform._arguments(home / "dbt"), "--select", "test_type:unit"])
        finally:
            DuckDBConnectionManager.close_all_connections()
    assert result.result is not None, result.exception
    return {done.node.unique_id.split(".", 2)[2]: str(done.status) for done in result.result}


def test_every_example_of_a_model_holds(outcomes: dict[str, str]) -> None:
    assert {name: status for name, status in outcomes.items() if status != "pass"} == {}


def test_the_stages_that_decide_about_people_have_examples(outcomes: dict[str, str]) -> None:
    models = {name.split(".")[0] for name in outcomes}
    assert {"identifier_consents", "contact_points", "eligibility", "transactions", "golden_records"} <= models
