"""The gate out of release: everything that was written is read again before the pointer moves."""

from pathlib import Path

import duckdb
import pyarrow as pa

from dagster_project.domain.release import verify
from dagster_project.quality.statements import Statement, Suite
from dagster_project.stages import RELEASE, STAGES


def reread(connection: duckdb.DuckDBPyConnection, directory: Path) -> None:
    """Write ``release.reread``: one row per file and table of the manifest, with whether it is as promised."""
    kept = verify(connection, directory)
    found = pa.table(  # noqa: F841 - read by the SQL below
        {
            "kind": pa.array([promise.kind for promise in kept], pa.string()),
            "name": pa.array([promise.name for promise in kept], pa.string()),
            "is_kept": pa.array([promise.is_kept for promise in kept], pa.bool_()),
        }
    )
    connection.execute("create or replace table release.reread as select * from found")


def suite() -> Suite:
    """The release gate. Nothing of it can be accepted."""
    earlier = ", ".join(f"('{stage}')" for stage in STAGES if stage != RELEASE)
    return Suite(
        stage="release",
        asset="release.info",
        statements=(
            Statement(
                "every_file_is_as_written",
                "select name, (not is_kept)::integer from release.reread where kind = 'file'",
                "A file of the release is not the one that was written: look at the disk, then run again.",
                most=0,
                is_acceptable=False,
            ),
            Statement(
                "every_table_has_its_rows",
                "select name, (not is_kept)::integer from release.reread where kind = 'table'",
                "A table of the release lacks rows: look at the disk, then run again.",
                most=0,
                is_acceptable=False,
            ),
            Statement(
                "every_gate_has_passed",
                f"""
                select gate, case when count(results.statement) = 0 then 1 else
                    count(*) filter (
                        where not results.is_passed and results.severity = 'stop' and results.accepted_because is null
                    ) end
                from (values {earlier}) as gates (gate)
                left join release.gate_results as results using (gate)
                group by gate
                """,
                "A gate was skipped or did not pass in this build: run the whole nightly job.",
                most=0,
                is_acceptable=False,
            ),
        ),
    )
