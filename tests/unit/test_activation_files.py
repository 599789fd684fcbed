"""What leaves the house: files, order, permissions, ledger. How single values are written: test_activation_vectors."""

import csv
import hashlib
import stat
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest
from unit.audience_tables import add, audience_tables

from dagster_project.domain import activation


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with audience_tables() as connection:
        yield connection


def rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def test_each_destination_gets_its_own_form_of_a_person(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    add(
        connection,
        "a1",
        emails=("zoe.d@gmail.com", "zoe@example.fr"),
        phones=("+33612345678",),
        post="3 rue haute 75011",
        golden=("zoe.d@gmail.com", "+33612345678", "Zoë", "D’Hérouville", "75011", None),
    )
    written = activation.write_files(connection, tmp_path / "audiences")
    assert [(file.path.as_posix(), file.row_count) for file in written] == [
        ("vip/email_tool.csv", 1),
        ("vip/google_customer_match.csv", 1),
        ("vip/meta_custom_audience.csv", 1),
        ("win_back/email_tool.csv", 0),
    ]
    folder = tmp_path / "audiences" / "vip"
    assert rows(folder / "email_tool.csv") == [["email", "first_name", "audience"], ["zoe.d@gmail.com", "Zoë", "vip"]]
    assert rows(folder / "google_customer_match.csv") == [
        ["Email", "Phone", "First Name", "Last Name", "Country", "Zip"],
        [sha("zoed@gmail.com"), sha("+33612345678"), sha("zoë"), sha("d’hérouville"), "FR", "75011"],
    ]
    header, line = rows(folder / "meta_custom_audience.csv")
    assert ",".join(header) == (
        "email,email,email,phone,phone,phone,madid,fn,ln,zip,ct,st,country,dob,doby,gen,age,uid,value"
    )
    assert line == [
        *(sha("zoe.d@gmail.com"), sha("zoe@example.fr"), "", sha("33612345678"), "", "", ""),
        *(sha("zoë"), sha("dhérouville"), sha("75011"), "", "", sha("fr"), "", "", "", "", "", ""),
    ]


def test_names_and_postal_code_stay_at_home_without_consent_for_the_address(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    golden = ("zoe@example.fr", None, "Zoë", "Petit", "75011", "FR")
    add(connection, "a1", emails=("zoe@example.fr",), golden=golden)
    activation.write_files(connection, tmp_path / "audiences")
    for line in rows(tmp_path / "audiences/vip/google_customer_match.csv")[1:]:
        assert line[1:] == [""] * 5
    for line in rows(tmp_path / "audiences/vip/meta_custom_audience.csv")[1:]:
        assert line[1:] == [""] * 18


def test_a_country_that_cannot_be_read_is_the_default_one(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    """A line must not end up empty because somebody typed the country in words."""
    add(connection, "a1", post="3 rue haute 75011", golden=(None, None, "Zoë", "Petit", "75011", "LA FRANCE"))
    activation.write_files(connection, tmp_path)
    assert rows(tmp_path / "vip/google_customer_match.csv")[1] == ["", "", sha("zoë"), sha("petit"), "FR", "75011"]


def test_an_audience_without_members_still_gets_its_files(
    connection: duckdb.DuckDBPyConnection, tmp_path: Path
) -> None:
    activation.write_files(connection, tmp_path / "audiences")
    assert (tmp_path / "audiences/win_back/email_tool.csv").read_text() == "email,first_name,audience\n"
    assert all(file.row_count == 0 for file in activation.reread_files(connection, tmp_path / "audiences"))


def test_people_held_out_are_in_no_file(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    add(connection, "a1", emails=("zoe@example.fr",), arm="holdout")
    assert sum(file.row_count for file in activation.write_files(connection, tmp_path / "audiences")) == 0


def test_the_files_do_not_depend_on_account_ids(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    for number in range(50):
        add(connection, f"a{number}", emails=(f"p{number}@example.fr", f"q{number}@example.fr"))
    activation.write_files(connection, tmp_path / "one")
    for table in ("audience.members", "audience.contact_points", "account.golden_records"):
        connection.execute(f"update {table} set account_id = md5('x' || account_id)")
    activation.write_files(connection, tmp_path / "two")
    for path in (tmp_path / "one").rglob("*.csv"):
        assert path.read_bytes() == (tmp_path / "two" / path.relative_to(tmp_path / "one")).read_bytes()
    order = [line[0] for line in rows(tmp_path / "one/vip/email_tool.csv")[1:]]
    assert order != sorted(order)


def test_files_are_private(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    activation.write_files(connection, tmp_path / "audiences")
    for path in [tmp_path / "audiences", *(tmp_path / "audiences").rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


def test_a_formula_in_a_name_reaches_the_tool_as_text(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    add(
        connection,
        "a1",
        emails=("+zoe@example.fr",),
        golden=(None, None, '=HYPERLINK("http://x")', None, None, None),
    )
    activation.write_files(connection, tmp_path / "audiences")
    assert rows(tmp_path / "audiences/vip/email_tool.csv")[1] == [
        '"+zoe"@example.fr',
        '\'=HYPERLINK("http://x")',
        "vip",
    ]
    assert all(file.formula_count == 0 for file in activation.reread_files(connection, tmp_path / "audiences"))
    assert all(file.malformed_count == 0 for file in activation.reread_files(connection, tmp_path / "audiences"))


def test_an_unknown_destination_is_refused_by_name(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    connection.execute("update audience.audiences set destinations = 'pigeon' where audience = 'vip'")
    with pytest.raises(ValueError, match="pigeon"):
        activation.write_files(connection, tmp_path / "audiences")


def test_rereading_finds_what_is_wrong_with_a_file(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    add(connection, "a1", emails=("zoe@example.fr",))
    add(connection, "a2", emails=("max@example.fr",))
    activation.write_files(connection, tmp_path)

    def reread(path: str) -> activation.RereadFile:
        return next(file for file in activation.reread_files(connection, tmp_path) if file.path.as_posix() == path)

    good = reread("vip/google_customer_match.csv")
    assert good.is_expected and good.is_header_right and good.is_private
    assert (good.row_count, good.member_count, good.malformed_count, good.plain_contact_count) == (2, 2, 0, 0)
    assert good.sha256 == hashlib.sha256((tmp_path / good.path).read_bytes()).hexdigest()

    google = tmp_path / "vip/google_customer_match.csv"
    header = google.read_text().splitlines()[0]
    google.write_text(f"{header}\nzoe@example.fr,+33612345678,,,,\n{sha('')},,,,,\n,,,,,\n,,,,,\n")
    google.chmod(0o644)
    bad = reread("vip/google_customer_match.csv")
    assert (bad.row_count, bad.member_count, bad.is_private) == (4, 2, False)
    assert (bad.malformed_count, bad.plain_contact_count, bad.formula_count) == (2, 2, 1)
    assert (bad.empty_hash_count, bad.empty_row_count, bad.repeated_count) == (1, 2, 1)

    google.write_text("Email\n")
    assert not reread("vip/google_customer_match.csv").is_header_right
    (tmp_path / "vip/email_tool.csv").unlink()
    assert reread("vip/email_tool.csv").sha256 == ""
    (tmp_path / "vip/left_over.csv").touch()
    assert not reread("vip/left_over.csv").is_expected


def ledger(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, ...]]:
    return connection.execute(
        "select account_id, identifier_type, first_release_id, last_release_id from activation.ledger order by all"
    ).fetchall()


def test_the_ledger_continues_runs_and_starts_new_ones(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    """R1 sends both, R2 only a1, R3 both again: a2 has two runs, a1 one."""
    add(connection, "a1", emails=("zoe@example.fr",), destinations=("email_tool",))
    previous: tuple[str, Path] | None = None
    for release_id, sends_a2 in (("R1", True), ("R2", False), ("R3", True)):
        connection.execute("delete from audience.members where account_id = 'a2'")
        if sends_a2:
            add(connection, "a2", emails=("max@example.fr",), destinations=("email_tool",))
        activation.write_files(connection, tmp_path / release_id)
        count = activation.write_ledger(
            connection,
            release_id=release_id,
            previous_release_id=previous[0] if previous else None,
            previous_database=previous[1] if previous else None,
        )
        assert count == len(ledger(connection))
        database = tmp_path / f"{release_id}.duckdb"
        connection.execute(f"attach '{database}' as target; create schema target.activation")
        connection.execute("create table target.activation.ledger as select * from activation.ledger")
        connection.execute("detach target")
        previous = (release_id, database)
    assert ledger(connection) == [
        ("a1", "email", "R1", "R3"),
        ("a2", "email", "R1", "R1"),
        ("a2", "email", "R3", "R3"),
    ]


def test_the_ledger_names_every_hash_that_left(connection: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    add(
        connection,
        "a1",
        emails=("zoe@example.fr", "zoe.d@gmail.com"),
        phones=("+33612345678",),
        post="3 rue haute 75011",
        golden=("zoe@example.fr", None, "Zoë", "Petit", "75011", "FR"),
    )
    activation.write_files(connection, tmp_path)
    activation.write_ledger(connection, release_id="R1")
    found = connection.execute(
        "select destination, identifier_type, identifier_hash from activation.ledger order by all"
    ).fetchall()
    assert sorted(found) == sorted(
        [
            ("email_tool", "email", sha("zoe@example.fr")),
            ("google_customer_match", "email", sha("zoe@example.fr")),
            ("google_customer_match", "phone", sha("+33612345678")),
            ("google_customer_match", "post", sha(f"{sha('zoë')}|{sha('petit')}|FR|75011")),
            ("meta_custom_audience", "email", sha("zoe@example.fr")),
            ("meta_custom_audience", "email", sha("zoe.d@gmail.com")),
            ("meta_custom_audience", "phone", sha("33612345678")),
            ("meta_custom_audience", "post", sha(f"{sha('zoë')}|{sha('petit')}|{sha('75011')}|{sha('fr')}")),
        ]
    )
