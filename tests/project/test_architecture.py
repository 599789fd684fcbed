"""Is the architecture still the architecture: layers, names, one description per table, the contract said once."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from dagster_project.domain import release
from dagster_project.domain.contract import feeds
from dagster_project.project import DBT_DIRECTORY
from dagster_project.settings import load_settings
from dagster_project.stages import OWNERS, STAGES

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "dagster_project"
MODELS = DBT_DIRECTORY / "models"
SQL = sorted(MODELS.rglob("*.sql"))

STAGING_TYPES = {
    "moment": "timestamp",
    "date": "date",
    "boolean": "boolean",
    "integer": "bigint",
    "decimal": "double",
    "amount": "decimal(18,2)",
}


def modules(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.py"))


def imports(path: Path) -> set[str]:
    """The modules that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def called(path: Path) -> set[str]:
    """The dotted names that a file uses, such as ``os.environ`` or ``datetime.now``."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}


def inside(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def below(names: set[str], *packages: str) -> set[str]:
    return {name for name in names for package in packages if name == package or name.startswith(package + ".")}


@pytest.mark.parametrize("path", modules(PACKAGE / "domain"), ids=inside)
def test_the_domain_knows_no_orchestration_no_clock_and_no_environment(path: Path) -> None:
    outside = below(imports(path), "dagster", "dagster_dbt", "great_expectations", "dbt", "typer", "rich")
    assert not outside
    above = {name for name in below(imports(path), "dagster_project") if not name.startswith("dagster_project.domain")}
    assert above <= {
        "dagster_project.project",
        "dagster_project.project.DBT_DIRECTORY",
        "dagster_project.stages",
        *(f"dagster_project.stages.{word.upper()}" for word in STAGES),
    }
    clock_and_environment = {"os.environ", "os.getenv", "datetime.now", "datetime.today", "date.today", "time.time"}
    assert not called(path) & clock_and_environment


LAYERS = {
    # what lies in the folder: what it may not know
    "quality": (
        "dagster_project.assets",
        "dagster_project.cli",
        "dagster_project.commands",
        "dagster_project.definitions",
        "dagster_project.jobs",
    ),
    "assets": (
        "dagster_project.cli",
        "dagster_project.commands",
        "dagster_project.definitions",
        "dagster_project.jobs",
        "great_expectations",
    ),
    "importers": ("dagster", "dagster_project.assets", "dagster_project.quality", "dagster_project.warehouse"),
    "demo": (
        "dagster",
        "dagster_project.assets",
        "dagster_project.quality",
        "dagster_project.warehouse",
        "dagster_project.settings",
    ),
}


@pytest.mark.parametrize("folder", LAYERS)
def test_no_layer_knows_the_ones_above_it(folder: str) -> None:
    for path in modules(PACKAGE / folder):
        assert not below(imports(path), *LAYERS[folder]), inside(path)


def test_nothing_but_the_command_and_the_benchmarks_knows_the_demo() -> None:
    for path in modules(PACKAGE):
        knows = ("demo", "bench.py", "privacy_bench.py", "accuracy")
        if inside(path).split("/")[0] not in knows and inside(path) != "commands/demo.py":
            assert not below(imports(path), "dagster_project.demo"), inside(path)


def test_the_environment_is_read_in_one_place() -> None:
    """Elsewhere it is only written, for the processes that a run starts."""
    readers = set()
    for path in modules(PACKAGE):
        text = path.read_text(encoding="utf-8")
        for match in re.finditer(r"os\.(getenv|environ)(?P<use>\S*)", text):
            if not match["use"].startswith(".update("):
                readers.add(inside(path))
    assert readers == {"settings.py"}


def test_databases_are_opened_where_it_is_said() -> None:
    """The working one by its door only, and by the doctor who looks at it between runs; a release's by its summary;
    others are in memory or thrown away.
    """
    openers = {inside(path) for path in modules(PACKAGE) if "duckdb.connect" in called(path)}
    openers = {name for name in openers if not name.startswith(("demo/", "importers/", "accuracy/"))}
    assert openers <= {"warehouse.py", "summary.py", "bench.py", "doctor.py"}


def test_no_file_is_named_after_nothing() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    stems = {Path(line).stem.lower() for line in listed.splitlines()}
    says_nothing = re.compile(r"(.*_)?(utils?|helpers?|common|managers?|core|misc|lib)")
    assert not {stem for stem in stems if says_nothing.fullmatch(stem)}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory: pytest.TempPathFactory, outside_environment: Any) -> dict[str, Any]:
    from dagster_project.transform import read_manifest

    with outside_environment():
        return read_manifest(load_settings(home=tmp_path_factory.mktemp("home")))


@pytest.mark.parametrize("path", SQL, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_each_model_is_described_in_a_file_of_its_own_that_begins_with_its_grain(path: Path) -> None:
    beside = path.with_suffix(".yml")
    assert beside.exists()
    (model,) = yaml.safe_load(beside.read_text(encoding="utf-8"))["models"]
    assert model["name"] == path.stem
    assert model["description"].startswith("One row per ")
    for column in model["columns"]:
        assert column.get("description", "").strip(), f"{column['name']} says nothing"
        assert column.get("data_type"), f"{column['name']} has no type"


@pytest.mark.parametrize("path", SQL, ids=lambda path: f"{path.parent.name}.{path.stem}")
def test_the_last_line_of_a_model_selects_its_last_step(path: Path) -> None:
    last = path.read_text(encoding="utf-8").rstrip().splitlines()[-1]
    assert re.fullmatch(r"select \* from \w+|\{\{ staged\(.*\) \}\}", last)


def test_every_table_that_python_writes_is_described_too(manifest: dict[str, Any]) -> None:
    for node in manifest["sources"].values():
        assert node["description"].strip(), node["name"]
        assert node["columns"], node["name"]
        for column in node["columns"].values():
            assert column["description"].strip(), f"{node['name']}.{column['name']}"


def feed_models() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in sorted((MODELS / "staging").glob("stg_*.yml")):
        (model,) = yaml.safe_load(path.read_text(encoding="utf-8"))["models"]
        yield path.stem.removeprefix("stg_"), model


def test_every_feed_of_the_contract_has_its_staging_table_and_no_other_has() -> None:
    assert {name for name, _ in feed_models()} == set(feeds())
    assert {path.stem.removeprefix("stg_") for path in (MODELS / "staging").glob("stg_*.sql")} == set(feeds())


@pytest.mark.parametrize(("feed", "model"), feed_models(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_staging_table_has_the_columns_of_the_contract(feed: str, model: dict[str, Any]) -> None:
    shape = feeds()[feed]
    found = {column["name"]: column for column in model["columns"]}
    names = list(found)
    assert tuple(names[: len(shape.columns)]) == shape.column_names
    assert {"delivered_on", "file_no", "line"} <= set(names[len(shape.columns) :])
    for column in shape.columns:
        told = found[column.name]
        assert told["data_type"].replace(" ", "") == STAGING_TYPES.get(column.type, "varchar"), column.name
        meta = told.get("config", {}).get("meta", {})
        assert meta.get("personal", False) == column.personal, column.name


@pytest.mark.parametrize("model", ["problems", "row_counts"])
def test_what_is_said_of_all_feeds_is_said_of_each(model: str) -> None:
    text = (MODELS / "staging" / f"{model}.sql").read_text(encoding="utf-8")
    listed = re.search(r"set feeds = \[(.*?)\]", text, re.DOTALL)
    assert listed is not None
    assert tuple(re.findall(r"'(\w+)'", listed[1])) == tuple(feeds())


def test_lines_wait_for_the_header_that_the_contract_names() -> None:
    for feed in feeds().values():
        text = (MODELS / "staging" / f"stg_{feed.name}.sql").read_text(encoding="utf-8")
        if feed.header:
            assert f"ref('stg_{feed.header}')" in text
        else:
            assert "ref(" not in text


def test_keys_and_versions_are_columns_that_every_row_has() -> None:
    for feed in feeds().values():
        mandatory = {column.name for column in feed.columns if column.mandatory}
        assert set(feed.key) <= mandatory
        assert feed.version is None or feed.version in mandatory
        assert len(set(feed.column_names)) == len(feed.columns)


def test_no_personal_column_is_in_a_table_for_analysts(manifest: dict[str, Any]) -> None:
    """Said by the tags; and whatever the tags say, no column there is named like what finds a person."""
    tables = release.published_tables(manifest)
    assert {table.readers for table in tables} == {"analysts", "restricted"}
    finds_a_person = re.compile(
        r"email|phone|(first|last|birth)_(name|date)|address(_line\d)?|identifier|contact_id|key_value"
    )
    for table in tables:
        if table.readers == "analysts":
            assert not [name for name in table.columns if finds_a_person.fullmatch(name)], table.qualified_name
            assert table.comment.startswith(("One row", "One "))


def test_a_schema_is_a_folder_a_group_and_an_owner(manifest: dict[str, Any]) -> None:
    assert {path.name for path in MODELS.iterdir() if path.is_dir()} == set(STAGES)
    for node in manifest["nodes"].values():
        if node["resource_type"] == "model":
            assert node["schema"] == node["fqn"][1]
            assert node["schema"] in STAGES
    assert {node["schema"] for node in manifest["sources"].values()} <= set(STAGES)
    assert set(OWNERS) == set(STAGES)


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory, outside_environment: Any) -> Any:
    from dagster_project.definitions import build_defs

    with outside_environment():
        return build_defs(load_settings(home=tmp_path_factory.mktemp("home")))


def test_every_asset_belongs_to_its_stage_with_an_owner_a_description_and_columns(definitions: Any) -> None:
    graph = definitions.resolve_asset_graph()
    keys = graph.get_all_asset_keys()
    assert {key.path[0] for key in keys} == set(STAGES)
    for key in keys:
        node = graph.get(key)
        assert node.group_name == key.path[0], key
        assert node.description, key
        assert node.owners or key.path[0] not in ("landing", "identity", "activation", "release"), key


def test_every_stage_has_a_gate_that_blocks_and_a_watch_that_does_not(definitions: Any) -> None:
    graph = definitions.resolve_asset_graph()
    checks = {key.name: graph.get(key) for key in graph.asset_check_keys}
    for stage in STAGES:
        assert checks[f"{stage}_gate"].blocking
        assert not checks[f"{stage}_watch"].blocking
        assert checks[f"{stage}_gate"].key.asset_key.path[0] == stage


def test_nothing_of_a_stage_is_in_the_step_of_another(definitions: Any) -> None:
    """A blocking check stops only what lies in another step."""
    for asset in definitions.assets or []:
        stages = {key.path[0] for key in asset.keys}
        assert len(stages) == 1


def test_nothing_runs_by_itself_until_somebody_switches_it_on(definitions: Any) -> None:
    assert {schedule.default_status.value for schedule in definitions.schedules} == {"STOPPED"}
    nightly = next(schedule for schedule in definitions.schedules if schedule.name == "every_night")
    assert (nightly.cron_schedule, nightly.execution_timezone) == ("30 2 * * *", "Europe/Paris")


def test_a_help_text_does_not_load_what_only_a_run_needs() -> None:
    heavy = ["dagster", "dbt", "great_expectations", "pandas", "duckdb", "pyarrow"]
    program = f"import sys; import dagster_project.cli; print([name for name in {heavy} if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert told.stdout.strip() == "[]"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere DuckDB takes its memory from the system")
def test_duckdb_asks_for_the_zeros_that_we_want() -> None:
    """Else what memory held of people stands in the unused ends of the blocks of a database."""
    code = "import os, sys, dagster_project;os.environ['DUCKDB_JE_MALLOC_CONF'] += sys.argv[1];import duckdb"
    for rest, is_accepted in ((",abort_conf:true", True), (",abort_conf:true,nothing:true", False)):
        done = subprocess.run([sys.executable, "-c", code, rest], cwd=ROOT, capture_output=True, check=False)
        assert (done.returncode == 0) == is_accepted
