"""What leaves the house: formats, hashes, order, permissions, ledger."""

import csv
import hashlib
import stat
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from dagster_project.domain import activation

# Hashes that Meta prints in "Customer information parameters".
META_EXAMPLES = {
    "john_smith@gmail.com": "62a14e44f765419d10fea99367361a727c12365e2520f32218d505ed9aa0f62f",
    "+16505551212": "e323ec626319ca94ee8bff2e4c87cf613be6ea19919ed1364124e16807ab3176",
    "Mary": "6915771be1c5aa0c886870b6951b03d7eafc121fea0e80a5ea83beb7c449f4ec",
    "Valéry": "08e1996b5dd49e62a4b4c010d44e4345592a863bb9f8e3976219bac29417149c",
}


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def connection() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("set preserve_insertion_order = false")
        connection.execute("""
            create schema landing; create schema account; create schema audience;
            create table landing.builds (default_country varchar);
            insert into landing.builds values ('FR');
            create table audience.audiences (audience varchar, destinations varchar);
            insert into audience.audiences values
                ('vip', 'email_tool, google_customer_match, meta_custom_audience'), ('win_back', 'email_tool');
            create table audience.members (audience varchar, destination varchar, account_id varchar, arm varchar);
            create table audience.contact_points
                (destination varchar, account_id varchar, identifier_type varchar, identifier varchar, position int);
            create table account.golden_records (account_id varchar, email varchar, phone varchar, first_name varchar,
                last_name varchar, postal_code varchar, country varchar);
        """)
        yield connection


def add(
    connection: duckdb.DuckDBPyConnection,
    account_id: str,
    *,
    emails: tuple[str, ...] = (),
    phones: tuple[str, ...] = (),
    post: str | None = None,
    golden: tuple[str | None, ...] = (None, None, None, None, None, None),
    arm: str = "treated",
    destinations: tuple[str, ...] = ("email_tool", "google_customer_match", "meta_custom_audience"),
) -> None:
    connection.execute("insert into account.golden_records values (?, ?, ?, ?, ?, ?, ?)", [account_id, *golden])
    for destination in destinations:
        connection.execute("insert into audience.members values ('vip', ?, ?, ?)", [destination, account_id, arm])
        points = [("email", email) for email in emails] + [("phone", phone) for phone in phones]
        points += [("post", post)] if post else []
        for position, (identifier_type, identifier) in enumerate(points):
            if identifier_type == "email" or destination != "email_tool":
                connection.execute(
                    "insert into audience.contact_points values (?, ?, ?, ?, ?)",
                    [destination, account_id, identifier_type, identifier, position],
                )


def rows(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.reader(stream))


def normalised(connection: duckdb.DuckDBPyConnection, macro: str, value: str) -> str | None:
    activation.define_macros(connection)
    ((result,),) = connection.execute(f"select {macro}(?)", [value]).fetchall()
    return result


@pytest.mark.parametrize(
    ("macro", "value", "expected"),
    [
        ("plain_name", " zoë ", "zoë"),
        ("plain_name", "Zoe\u0308", "zoë"),
        ("plain_name", "Jean-François", "jean-françois"),
        ("plain_name", "D’Hérouville", "d’hérouville"),
        ("plain_name", "Œuvrard", "œuvrard"),
        ("plain_name", "de  la   Tour", "de la tour"),
        ("meta_name", "zoë", "zoë"),
        ("meta_name", "Jean-François", "jeanfrançois"),
        ("meta_name", "D’Hérouville", "dhérouville"),
        ("meta_name", "D'HÉROUVILLE", "dhérouville"),
        ("meta_name", "Œuvrard", "œuvrard"),
        ("meta_name", "St. John (Jr.)", "stjohnjr"),
        ("google_email", " Marie.Le.Goff+promo@GMail.com", "marielegoff@gmail.com"),
        ("google_email", "m.l@googlemail.com", "ml@googlemail.com"),
        ("google_email", "marie.le.goff+promo@orange.fr", "marie.le.goff+promo@orange.fr"),
        ("google_email", "marie.le.goff@notgmail.com", "marie.le.goff@notgmail.com"),
        ("plain_email", "Marie.Le.Goff+promo@GMail.com", "marie.le.goff+promo@gmail.com"),
        ("phone_digits", "+33612345678", "33612345678"),
        ("plain_zip", "=75011", "75011"),
        ("plain_zip", " -WC2H 8lg", "WC2H 8LG"),
        ("meta_zip", "WC2H 8LG", "wc2h8lg"),
        ("plain_country", "fr", "FR"),
        ("plain_country", "France", None),
        ("neutral_text", "=cmd", "'=cmd"),
        ("neutral_text", "\tcmd", "'\tcmd"),
        ("neutral_text", "@cmd", "'@cmd"),
        ("neutral_text", "Zoë", "Zoë"),
        ("neutral_email", "+zoe@example.fr", '"+zoe"@example.fr'),
        ("neutral_email", "zoe+x@example.fr", "zoe+x@example.fr"),
        ("sent_hash", "", None),
    ],
)
def test_a_value_is_written_as_the_destination_wants_it(
    connection: duckdb.DuckDBPyConnection, macro: str, value: str, expected: str | None
) -> None:
    assert normalised(connection, macro, value) == expected


@pytest.mark.parametrize(
    ("macro", "value"),
    [
        ("plain_email", "john_smith@gmail.com"),
        ("phone_digits", "+16505551212"),
        ("meta_name", "Mary"),
        ("meta_name", "Valéry"),
    ],
)
def test_hashes_are_those_that_meta_prints(connection: duckdb.DuckDBPyConnection, macro: str, value: str) -> None:
    assert sha(normalised(connection, macro, value) or "") == META_EXAMPLES[value]


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
