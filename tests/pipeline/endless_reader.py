"""An analyst who never stops: reads the current release in a loop. A program that the readers' tests start, not a test.

    python endless_reader.py <way> <home> <notes>

``<way>`` is ``fresh`` (a new connection through ``current`` each time), ``resolved`` (the link is resolved once, then
both databases, the manifest and a file are read) or ``patient`` (a connection that stays open while releases come and
go). One line of JSON per read goes to ``<notes>``; the loop ends when standard input is closed.
"""

import json
import os
import select
import sys
import time
from pathlib import Path
from typing import Any

import duckdb

WAY, HOME, NOTES = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
CURRENT = HOME / "releases" / "current"
PATIENCE = 10

QUERY = """
    select
        (select release_id from release.info),
        (select count(*) from account.accounts),
        (
            select count(*) from identity.account_links as links
            join account.accounts as accounts using (account_id)
            left join segment.account_segments as segments using (account_id)
        ),
        (select sum(counted_amount)::varchar from account.reconciliation),
        (select count(*) from landing.files)
"""


def connect(path: Path) -> duckdb.DuckDBPyConnection:
    return duckdb.connect(str(path), read_only=True, config={"threads": 1})


def asked(connection: duckdb.DuckDBPyConnection) -> list[Any]:
    first = connection.execute(QUERY).fetchall()
    second = connection.execute(QUERY).fetchall()
    assert first == second, (first, second)
    return list(first[0])


def read_fresh() -> list[Any]:
    with connect(CURRENT / "cocanal.duckdb") as connection:
        return asked(connection)


def read_resolved() -> list[Any]:
    folder = CURRENT.resolve()
    with connect(folder / "cocanal.duckdb") as connection:
        connection.execute(f"attach '{folder}/restricted.duckdb' as restricted (read_only)")
        found = asked(connection)
        ((sent,),) = connection.execute("select max(last_release_id) from restricted.activation.ledger").fetchall()
        ((records,),) = connection.execute(
            "select count(*) from restricted.identity.records as records "
            "join identity.account_links as links on links.feed = records.feed and links.record_id = records.record_id"
        ).fetchall()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert records > 0
    assert manifest["release_id"] == found[0] == sent == folder.name, (manifest["release_id"], found[0], sent)
    for entry in manifest["files"]:
        assert (folder / entry["path"]).stat().st_size == entry["bytes"]
    return found


def main() -> None:
    held: duckdb.DuckDBPyConnection | None = None
    reads = 0
    with NOTES.open("a", encoding="utf-8") as notes:
        while not select.select([sys.stdin], [], [], 0)[0]:
            try:
                if WAY == "patient":
                    # Resolved: a process that has «current» open would be given the same old release again.
                    if held is None or reads % PATIENCE == 0:
                        held = connect(CURRENT.resolve() / "cocanal.duckdb")
                    found = asked(held)
                else:
                    found = read_fresh() if WAY == "fresh" else read_resolved()
                note = {"read": found}
            except Exception as error:
                note = {"error": f"{type(error).__name__}: {error}"}
            reads += 1
            notes.write(json.dumps(note) + "\n")
            notes.flush()
            time.sleep(0.15)


os.nice(5)
main()
