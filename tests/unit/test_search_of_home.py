"""What the search after an erasure finds in the files of a home, and what it must not take for a find."""

import gzip
import sqlite3
import zipfile
from contextlib import closing
from datetime import datetime
from pathlib import Path

import duckdb
import pytest

from dagster_project.domain.privacy import search
from dagster_project.domain.privacy.search import Search, find_left_over
from dagster_project.domain.privacy.subject import Subject

LEA = Subject(
    request_id="R1",
    received_at=datetime(2020, 7, 8),
    until_at=datetime(2020, 7, 8),
    because="erasure",
    emails=frozenset({"lea@mail.example"}),
    customer_ids=frozenset({"C1"}),
    spellings=frozenset({"06 12 34 56 78"}),
    addresses=frozenset({"12 allée des Hêtres"}),
)


def look(home: Path, subject: Subject = LEA) -> Search:
    with duckdb.connect() as connection:
        return find_left_over(connection, home, [subject])


def places(home: Path) -> set[tuple[str, str]]:
    return {(each.file, each.place) for each in look(home).found}


def write_parquet(path: Path, values: list[str], column: str = "note") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute(
            f"copy (select unnest($1::varchar[]) as {column}) to '{path}' (format parquet)",
            [values],
        )


@pytest.mark.parametrize(
    "text",
    [
        "lea@mail.example",
        "write to LEA@Mail.Example.",
        "tel;06 12 34 56 78;",
        "12 allée des hêtres",
        "12 ALLÉE DES HÊTRES",
    ],
)
def test_a_word_is_found_whatever_packs_it(tmp_path: Path, text: str) -> None:
    told = f"x,{text},y\n".encode()
    (tmp_path / "a.csv").write_bytes(told)
    (tmp_path / "b.csv").write_bytes(f"x,{text},y\n".encode("latin-1"))
    (tmp_path / "c.csv.gz").write_bytes(gzip.compress(told))
    with zipfile.ZipFile(tmp_path / "d.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("inside.csv", told)
    write_parquet(tmp_path / "e.parquet", ["nothing", text])
    with duckdb.connect(str(tmp_path / "f.duckdb")) as connection:
        connection.execute("create table notes as select unnest($1::varchar[]) as note", [["nothing", text]])
    with closing(sqlite3.connect(tmp_path / "g.db")) as database:
        database.execute("create table notes (note)")
        database.execute("insert into notes values (?)", [text])
        database.commit()
    found = places(tmp_path)
    assert {file for file, _ in found} == {"a.csv", "b.csv", "c.csv.gz", "d.zip", "e.parquet", "f.duckdb", "g.db"}
    assert {("e.parquet", "note"), ("f.duckdb", "main.notes.note"), ("g.db", "notes")} <= found


@pytest.mark.parametrize(
    "text",
    [
        "anne.lea@mail.example",
        "anne-lea@mail.example",
        "lea@mail.example.com",
        "lea@mail.examples",
        "1206 12 34 56 789",
        "112 allée des Hêtres",
        "C1",
    ],
)
def test_what_only_looks_like_the_word_is_somebody_else_s(tmp_path: Path, text: str) -> None:
    """A find that is none keeps the erasure open for ever: there is nothing that could be taken away."""
    (tmp_path / "a.csv").write_text(f"x,{text},y\n", encoding="utf-8")
    write_parquet(tmp_path / "b.parquet", [text])
    with duckdb.connect(str(tmp_path / "c.duckdb")) as connection:
        connection.execute("create table notes as select unnest($1::varchar[]) as note", [[text, "other"]])
    assert places(tmp_path) == set()


def test_a_short_number_is_found_in_columns_of_such_numbers_only(tmp_path: Path) -> None:
    write_parquet(tmp_path / "a.parquet", ["C1"], "customer_id")
    write_parquet(tmp_path / "b.parquet", ["C1"], "store_id")
    assert places(tmp_path) == {("a.parquet", "customer_id")}


def test_of_files_that_are_read_together_the_one_with_the_find_is_named(tmp_path: Path) -> None:
    for number in range(5):
        write_parquet(tmp_path / f"{number}.parquet", [f"text {number}"])
    write_parquet(tmp_path / "5.parquet", ["lea@mail.example"], "another")
    told = look(tmp_path)
    assert {(each.file, each.place) for each in told.found} == {("5.parquet", "another"), ("5.parquet", "bytes")}
    assert (told.file_count, told.cell_count) == (6, 6)


def test_what_was_deleted_inside_a_database_is_found_in_its_free_blocks(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "a.duckdb")) as connection:
        connection.execute("set force_compression = 'uncompressed'")
        connection.execute("create table gone as select 'lea@mail.example ' || i as note from range(20000) as t(i)")
        connection.execute("create table kept as select i from range(100000) as t(i)")
        connection.execute("checkpoint")
        connection.execute("drop table gone")
    assert places(tmp_path) == {("a.duckdb", "bytes")}


@pytest.mark.parametrize("before", range(50, 80, 3))
def test_a_word_across_two_pieces_of_a_file_is_found_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    monkeypatch.setattr(search, "_CHUNK", 64)
    (tmp_path / "a.txt").write_text("x" * before + " lea@mail.example " + "y" * 300, encoding="ascii")
    assert [(each.place, each.count) for each in look(tmp_path).found] == [("bytes", 1)]


def test_whole_cells_are_compared_where_there_are_too_many_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MOST_WORDS", 1)
    write_parquet(tmp_path / "a.parquet", ["LEA@mail.example"])
    write_parquet(tmp_path / "b.parquet", ["write to lea@mail.example"])
    told = look(tmp_path)
    assert [(each.file, each.place, each.count) for each in told.found] == [("a.parquet", "note", 1)]
    assert not told.is_thorough


def test_two_values_that_meet_in_a_database_are_no_address(tmp_path: Path) -> None:
    with duckdb.connect(str(tmp_path / "a.duckdb")) as connection:
        connection.execute("set force_compression = 'uncompressed'")
        connection.execute("create table notes (note varchar)")
        connection.execute("insert into notes values ('allée 1'), ('2 allée des Hêtres'), ('allée 1')")
    assert places(tmp_path) == set()
