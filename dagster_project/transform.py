"""dbt, run inside the process: what the models are, and building those of one stage.

Starting the dbt command for each stage doubles the time of a run; dbt's own programmatic runner does not. Not for what
the models say: that is ``dbt/``.
"""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from dagster_project.domain.audiences import Audience, AudienceError, read_audiences
from dagster_project.project import DBT_DIRECTORY
from dagster_project.settings import Settings, environment_of_run
from dagster_project.warehouse import Warehouse


class TransformError(Exception):
    """dbt could not parse the project or build a model; the message names the model and what to do."""


@dataclass(frozen=True)
class NodeResult:
    """What became of one model or test: ``status`` is dbt's (success, error, skipped, pass, fail, warn)."""

    unique_id: str
    status: str
    seconds: float
    message: str
    failure_count: int


def project_fingerprint() -> str:
    """A hash of every file of the dbt project: what the models are is a function of it."""
    digest = hashlib.sha256()
    for path in sorted(DBT_DIRECTORY.rglob("*")):
        inside = path.relative_to(DBT_DIRECTORY)
        if path.is_file() and inside.parts[0] not in ("target", "logs") and path.suffix in (".sql", ".yml", ".md"):
            digest.update(str(inside).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def _arguments(target: Path) -> list[str]:
    return [
        *("--project-dir", str(DBT_DIRECTORY)),
        *("--profiles-dir", str(DBT_DIRECTORY)),
        *("--target-path", str(target)),
        *("--log-path", str(target / "logs")),
        *("--quiet", "--no-write-json", "--log-level", "none", "--log-level-file", "none"),
    ]


def _prepared_folder(settings: Settings) -> Path:
    """Where the parsed project is kept: beside it where that can be written, else in the home."""
    folder = DBT_DIRECTORY / "target"
    return folder if os.access(DBT_DIRECTORY, os.W_OK) else settings.dbt_target / "prepared"


def _is_whole(manifest: Path) -> bool:
    """Whether the file ends as a manifest does: after a power cut it may be there and hold nothing."""
    try:
        with manifest.open("rb") as stream:
            stream.seek(-1, os.SEEK_END)
            return stream.read(1) == b"}"
    except OSError:
        return False


def prepare_manifest(settings: Settings) -> Path:
    """The path of dbt's ``manifest.json``, made when missing or stale. Raises TransformError if dbt cannot parse.

    Safe when several processes prepare at once: the folder of a fingerprint appears whole.
    """
    folder = _prepared_folder(settings) / f"prepared-{project_fingerprint()}"
    manifest = folder / "manifest.json"
    if _is_whole(manifest):
        return manifest
    shutil.rmtree(folder, ignore_errors=True)
    from dbt.cli.main import dbtRunner

    folder.parent.mkdir(parents=True, exist_ok=True)
    for stale in folder.parent.glob("prepared-*"):
        shutil.rmtree(stale, ignore_errors=True)
    os.environ.update(environment_of_run(settings))
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".preparing-") as scratch:
        arguments = [word for word in _arguments(Path(scratch)) if word != "--no-write-json"]
        result = dbtRunner().invoke(["parse", *arguments])
        if not result.success:
            raise TransformError(f"dbt cannot read the project: {result.exception}")
        try:
            os.rename(scratch, folder)
            os.mkdir(scratch)  # the context manager wants something to remove
        except OSError:
            if not _is_whole(manifest):
                raise
    return manifest


def read_manifest(settings: Settings) -> dict[str, Any]:
    """Dbt's manifest as a dictionary."""
    return json.loads(prepare_manifest(settings).read_text(encoding="utf-8"))


def read_variables() -> dict[str, Any]:
    """The vars of dbt_project.yml."""
    return yaml.safe_load((DBT_DIRECTORY / "dbt_project.yml").read_text(encoding="utf-8"))["vars"]


def audience_definitions(manifest: dict[str, Any]) -> dict[str, Audience]:
    """What the audiences say about themselves, by name. Raises TransformError with a sentence per mistake."""
    try:
        return read_audiences(manifest, read_variables())
    except AudienceError as error:
        raise TransformError(f"The metadata of the audiences cannot be used:\n{error}") from error


@cache
def _loaded_manifest(fingerprint: str, target: Path) -> Any:
    """Dbt's own manifest object, parsed once a process, for the runner to reuse in every stage."""
    from dbt.cli.main import dbtRunner

    result = dbtRunner().invoke(["parse", *_arguments(target)])
    if not result.success:
        raise TransformError(f"dbt cannot read the project: {result.exception}")
    return result.result


def build(settings: Settings, stage: str, warehouse: Warehouse, select: str | None = None) -> Iterator[NodeResult]:
    """Build the models of one stage and run their tests, in dbt's order; yields what became of each.

    ``select`` is a selector of dbt's that narrows the stage, such as ``+quarantine``; None is all of it.
    Unit tests of the models belong to the test suite and are left out. Afterwards no connection to the warehouse stays
    open: the next stage could not write otherwise.
    """
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner

    os.environ.update(environment_of_run(settings))
    with warehouse.session(stage):
        pass  # makes the file and the schemas with the right modes
    target = settings.dbt_target
    if not target.is_dir():
        target.unlink(missing_ok=True)
        target.mkdir(parents=True)
        shutil.copy(prepare_manifest(settings).with_name("partial_parse.msgpack"), target)
    manifest = _loaded_manifest(project_fingerprint(), target)
    selection = f"fqn:cocanal.{stage},{select}" if select else f"fqn:cocanal.{stage}"
    try:
        result = dbtRunner(manifest=manifest).invoke(
            ["build", *_arguments(target), "--select", selection, "--exclude-resource-type", "unit_test"]
        )
    finally:
        DuckDBConnectionManager.close_all_connections()
    outcomes: Any = result.result
    if outcomes is None:
        raise TransformError(f"dbt could not build {stage}: {result.exception}")
    for outcome in outcomes:
        yield NodeResult(
            unique_id=outcome.node.unique_id,
            status=str(outcome.status),
            seconds=outcome.execution_time,
            message=outcome.message or "",
            failure_count=outcome.failures or 0,
        )
