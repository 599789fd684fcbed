"""The memory of pair scores: what was compared once is not compared again.

What belongs here: finding the scores of tonight's pairs, in the memory or by the model. What does not: a decision.

A score is a function of what two profiles say and of the model, and the number of a profile is a hash of what it says:
so it is remembered under both numbers.
The memory is a cache: lost, damaged or of another model, it is made again, and every table of the stage comes out the
same. It holds no personal data but hashes. It grows with what is new, and is written anew when most of it is unused.
"""

import hashlib
import json
import shutil
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import duckdb
from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.clustering import count_rows
from dagster_project.domain.identity.model import COMPARISONS, GAMMAS, Model, score_pairs
from dagster_project.domain.sql_literal import literal

_COLUMNS = ("weight", *GAMMAS)
_BATCH = 4_000_000
"""Pairs that are scored at once: bounds the memory of the comparison."""


def _stamp(model: Model) -> str:
    """What a remembered score depends on besides the two contents; not what is made of it (thresholds, conflicts)."""
    names = [model.names, model.least_name_share]
    parameters = [model.prior, model.levels, names, [asdict(comparison) for comparison in COMPARISONS]]
    said = json.dumps([parameters, duckdb.__version__, version("splink")], sort_keys=True, default=str)
    sources = b"".join(
        path.read_bytes()
        for path in [
            Path(__file__).with_name("model.py"),
            Path(__file__).with_name("standard_forms.py"),
            *sorted(Path(__file__).with_name("reference").glob("*.csv")),
        ]
    )
    return hashlib.sha256(said.encode() + sources).hexdigest()


class ScoreMemory:
    """The memory in one file, attached to a connection for the length of a build; ``path`` None forgets at the end."""

    def __init__(self, connection: DuckDBPyConnection, model: Model, path: Path | None) -> None:
        self._connection, self._model, self._path = connection, model, path
        self.scored = 0
        """Pairs that had to be compared."""

    def __enter__(self) -> "ScoreMemory":
        target = ":memory:"
        if self._path is not None:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            target = str(self._path)
        try:
            self._connection.execute(f"attach {literal(target)} as score_memory")
            known = self._connection.execute(
                "select count(*) from duckdb_tables() where database_name = 'score_memory' and table_name = 'stamp'"
            ).fetchall()[0][0]
            is_ours = known and self._connection.execute("select stamp from score_memory.stamp").fetchall() == [
                (_stamp(self._model),)
            ]
            if is_ours:
                # Read in full: damage inside would else end every night in the middle of the stage.
                self._connection.execute("select bit_xor(hash(scores)) from score_memory.scores as scores").fetchall()
        except duckdb.Error:
            # A file that cannot be read is forgotten: it is only a memory.
            self._connection.execute("detach database if exists score_memory")
            self._forget()
            self._connection.execute(f"attach {literal(target)} as score_memory")
            is_ours = False
        if not is_ours:
            if self._path is not None:
                self._connection.execute("detach score_memory")
                self._forget()
                self._connection.execute(f"attach {literal(target)} as score_memory")
                self._path.chmod(0o600)
            gammas = ", ".join(f"{gamma} tinyint" for gamma in GAMMAS)
            self._connection.execute(
                f"""
                create table score_memory.scores (l bigint, r bigint, weight real, {gammas});
                create table score_memory.stamp as select '{_stamp(self._model)}' as stamp
                """
            )
        self._connection.execute(
            "create or replace temp table identity_scores as select * from score_memory.scores limit 0"
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.execute("detach score_memory")

    def _forget(self) -> None:
        if self._path is not None:
            for path in (self._path, self._path.with_name(self._path.name + ".wal")):
                if path.is_dir() and not path.is_symlink():
                    shutil.rmtree(path)
                path.unlink(missing_ok=True)

    def look_up(self, pairs: str) -> None:
        """Add the scores of the pairs (l < r) of profiles in the table ``pairs`` to ``identity_scores``.

        ``identity_scores`` has one row per pair: l, r, weight and levels. No pair may be asked twice.
        """
        connection = self._connection
        connection.execute(
            f"insert into identity_scores select * from score_memory.scores semi join {pairs} using (l, r)"
        )
        connection.execute(
            f"""
            create or replace temp table identity_unscored as
            select l, r, row_number() over () as number
            from {pairs} anti join score_memory.scores using (l, r)
            """
        )
        count = count_rows(connection, "identity_unscored")
        for start in range(0, count, _BATCH):
            connection.execute(
                "create or replace temp table identity_batch as select l, r from identity_unscored "
                f"where number > {start} and number <= {start + _BATCH}"
            )
            score_pairs(connection, self._model, "identity_batch", "identity_scored")
            for scores in ("identity_scores", "score_memory.scores"):
                connection.execute(f"insert into {scores} select l, r, {', '.join(_COLUMNS)} from identity_scored")
            connection.execute("drop table identity_batch; drop table identity_scored")
        self.scored += count
        connection.execute("drop table identity_unscored")

    def tidy(self) -> None:
        """Write the memory anew with tonight's pairs only, where more than half of it was not asked for."""
        held = count_rows(self._connection, "score_memory.scores")
        used = count_rows(self._connection, "identity_scores")
        if self._path is not None and held > 2 * used + 1000:
            self._connection.execute("create or replace table score_memory.scores as select * from identity_scores")
