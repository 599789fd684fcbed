"""How dbt opens the working database."""

from pathlib import Path

import duckdb
import pytest
import yaml

from dagster_project.project import DBT_DIRECTORY


@pytest.fixture
def output() -> dict[str, dict[str, str]]:
    profiles = yaml.safe_load((DBT_DIRECTORY / "profiles.yml").read_text(encoding="utf-8"))
    return profiles["cocanal"]["outputs"]["duckdb"]


def test_a_model_after_one_that_spilled_still_runs(output: dict[str, dict[str, str]], tmp_path: Path) -> None:
    """At a million people staging spilled, and the next model could not begin: dbt repeats its settings before each."""
    config = {name: str(tmp_path / "spill") for name in output["config_options"]}
    with duckdb.connect(str(tmp_path / "warehouse.duckdb"), config=config) as connection:
        connection.execute("set threads = 1; set memory_limit = '30MB'")
        connection.execute(
            "create table spilled as select a.range as n, hash(a.range) as h from range(3000000) as a order by h"
        )
        assert any((tmp_path / "spill").iterdir()) or connection.execute("from duckdb_temporary_files()").fetchall()
        for name in output["settings"]:
            ((value,),) = connection.execute(f"select current_setting('{name}')").fetchall()
            connection.cursor().execute(f"set {name} = '{value}'")
