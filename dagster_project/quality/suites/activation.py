"""The gate out of activation: the files are read again as a stranger would, and measured against the members."""

import csv
import re
from dataclasses import asdict, fields
from pathlib import Path

import duckdb
import pyarrow as pa

from dagster_project.domain.activation import RereadFile, reread_files
from dagster_project.quality.statements import Statement, Suite


def reread(connection: duckdb.DuckDBPyConnection, directory: Path) -> None:
    """Write ``activation.reread_files``: one row per file that should be there or is there, with what it holds."""
    rows = [{**asdict(file), "path": str(file.path)} for file in reread_files(connection, directory)]
    names = [field.name for field in fields(RereadFile)]
    found = pa.Table.from_pylist(rows) if rows else pa.table({name: pa.array([], pa.string()) for name in names})  # noqa: F841
    connection.execute("create or replace table activation.reread_files as select * from found")


def reread_removals(connection: duckdb.DuckDBPyConnection, directory: Path) -> None:
    """Write ``activation.reread_removals``: one row per file of identifiers that a destination is to forget, with how
    many of its cells are no hash, and whether others may read it.
    """
    connection.execute(
        "create or replace table activation.reread_removals (path varchar, malformed_count bigint, is_private boolean)"
    )
    for path in sorted(directory.glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as stream:
            cells = [cell for row in list(csv.reader(stream))[1:] for cell in row if cell]
        malformed = sum(not re.fullmatch("[0-9a-f]{64}", cell) for cell in cells)
        connection.execute(
            "insert into activation.reread_removals values ($1, $2, $3)",
            [path.name, malformed, not path.stat().st_mode & 0o077],
        )


def suite() -> Suite:
    """The activation gate. Nothing of it can be accepted: a wrong file must not leave the house."""

    def zero(name: str, observed: str, advice: str) -> Statement:
        return Statement(
            name,
            f"select path, {observed} from activation.reread_files",
            advice,
            least=0,
            most=0,
            is_acceptable=False,
        )

    again = "The file was written wrongly: run again, and look at domain/activation.py if it comes back."
    return Suite(
        stage="activation",
        asset="activation.ledger",
        statements=(
            zero(
                "each_file_holds_its_members",
                "row_count::bigint - member_count::bigint",
                "The file holds other people than the audience: it was changed or lost between writing and reading.",
            ),
            zero("headers_are_what_the_platform_wants", "(not is_header_right::boolean)::integer", again),
            zero("no_file_is_unexpected", "(not is_expected::boolean)::integer", again),
            zero("files_are_private", "(not is_private::boolean)::integer", again),
            zero("cells_are_well_formed", "malformed_count::bigint + empty_hash_count::bigint", again),
            zero("hashed_files_hold_no_plain_contact", "plain_contact_count::bigint", again),
            zero("every_line_has_an_identifier", "empty_row_count::bigint", again),
            Statement(
                "what_is_to_be_forgotten_is_told_by_hashes_alone",
                "select path, malformed_count + (not is_private)::integer from activation.reread_removals",
                again,
                least=0,
                most=0,
                is_acceptable=False,
            ),
            zero("no_cell_is_a_formula", "formula_count::bigint", again),
        ),
    )
