"""Activation: the files that leave the house, one per audience and destination, and the ledger of who went where.

Here belong the formats of the destinations and how each one wants a value written before it is hashed. Who may be in a
file is decided before, by the audience models: this module only reads the members that were kept and the identifiers
that they allowed for that destination, and takes nothing else.

Sources of the formats, all of the platforms themselves:

- Google Ads help, "Format your customer data file": https://support.google.com/google-ads/answer/7659867, and its
  template with the line ``zoë,pérez,sg,WC2H 8LG``: https://g.co/wudy8r
- Google Ads help, "Country and Zip data won't be hashed": https://support.google.com/google-ads/answer/7474263
- Google Data Manager API, "Format user data": https://developers.google.com/data-manager/api/devguides/concepts/formatting
- Meta Business Help, "How to format a customer list": https://www.facebook.com/business/help/2082575038703844
- Meta, "Customer information parameters", whose printed hashes are among the golden vectors of the tests:
  https://developers.facebook.com/docs/marketing-api/conversions-api/parameters/customer-information-parameters
- Meta, "Customer File Custom Audiences", hashing and normalisation:
  https://developers.facebook.com/docs/marketing-api/audiences/guides/custom-audiences

What follows from them for each value is a table in docs/audiences.md; where they contradict each other,
docs/decisions.md says which one is followed. ``tests/unit/test_activation_vectors.py`` holds the vectors.
"""

import csv
import hashlib
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import duckdb

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_HASH_OF_NOTHING = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Column:
    """One column of a destination's file.

    ``value`` is SQL over one row of ``_CANDIDATES``; null means an empty cell. ``identifier`` names the identifier that
    the cell carries or is part of (``email``, ``phone``, ``post``), for the ledger. ``neutralised_by`` is the SQL macro
    that makes a plain cell harmless to a spreadsheet.
    """

    header: str
    value: str = "null"
    identifier: str | None = None
    is_hashed: bool = False
    neutralised_by: str | None = None


def _hashed(header: str, value: str, identifier: str) -> Column:
    return Column(header, f"sent_hash({value})", identifier, is_hashed=True)


# Google matches an address only with both names, country and postal code together: without one of them none is sent.
_GOOGLE_ADDRESS = (
    "has_address and google_name(first_name) <> '' and google_name(last_name) <> ''"
    " and country <> '' and google_zip(postal_code, country) <> ''"
)

FORMATS: dict[str, tuple[Column, ...]] = {
    # An e-mail tool keys people by their address. No account id: the file would say more than it has to, and would
    # change with the history of the ids.
    "email_tool": (
        Column("email", "emails[1]", "email", neutralised_by="neutral_email"),
        Column("first_name", "visible(first_name)", neutralised_by="neutral_text"),
        Column("audience", "audience"),
    ),
    "google_customer_match": (
        _hashed("Email", "google_email(emails[1])", "email"),
        _hashed("Phone", "phones[1]", "phone"),
        _hashed("First Name", f"case when {_GOOGLE_ADDRESS} then google_name(first_name) end", "post"),
        _hashed("Last Name", f"case when {_GOOGLE_ADDRESS} then google_name(last_name) end", "post"),
        Column("Country", f"case when {_GOOGLE_ADDRESS} then country end", "post"),
        Column("Zip", f"case when {_GOOGLE_ADDRESS} then google_zip(postal_code, country) end", "post"),
    ),
    # Repeated names are Meta's own way to take up to three addresses and numbers. Town, birth date, gender, age and a
    # customer's value are never sent: nobody consented to more than being found again.
    "meta_custom_audience": (
        _hashed("email", "plain_email(emails[1])", "email"),
        _hashed("email", "plain_email(emails[2])", "email"),
        _hashed("email", "plain_email(emails[3])", "email"),
        _hashed("phone", "phone_digits(phones[1])", "phone"),
        _hashed("phone", "phone_digits(phones[2])", "phone"),
        _hashed("phone", "phone_digits(phones[3])", "phone"),
        Column("madid"),
        _hashed("fn", "case when has_address then meta_name(first_name) end", "post"),
        _hashed("ln", "case when has_address then meta_name(last_name) end", "post"),
        _hashed("zip", "case when has_address then meta_zip(postal_code, country) end", "post"),
        Column("ct"),
        Column("st"),
        _hashed("country", "case when has_address then lower(country) end", "post"),
        Column("dob"),
        Column("doby"),
        Column("gen"),
        Column("age"),
        Column("uid"),
        Column("value"),
    ),
}

# How a value is written before it is hashed. Nothing has no hash.
_MACROS = {
    "sent_hash(x)": "case when x <> '' then sha256(x) end",
    # What is seen of a text: every kind of blank (no-break, thin) is one blank, what is invisible (zero width, soft
    # hyphen, byte order mark, direction marks) is gone, and letters are composed. RE2 counts only ASCII blanks as \s.
    "visible(x)": r"""
        nfc_normalize(trim(regexp_replace(
            regexp_replace(x, '[\s\p{Z}\p{C}]*[\s\p{Z}][\s\p{Z}\p{C}]*', ' ', 'g'), '\p{C}', '', 'g'
        )))""",
    # Both: lower case without blanks. Only Google takes dots and tags away: to Meta, they are part of the address.
    "plain_email(x)": "lower(replace(visible(x), ' ', ''))",
    # Google Data Manager API, "Format user data": of gmail.com and googlemail.com, no dots and nothing after a plus.
    # An address of nothing else stays as it is: Gmail has none such, and all of them would have the same hash.
    "google_email(x)": r"""
        case
            when regexp_matches(plain_email(x), '^[.]*[^.+@].*@(gmail|googlemail)\.com$') then
                replace(regexp_replace(split_part(plain_email(x), '@', 1), '\+.*$', ''), '.', '')
                || '@' || split_part(plain_email(x), '@', 2)
            else plain_email(x)
        end""",
    # Meta, "Customer information parameters": digits with the country code. In E.164 no number begins with a zero.
    "phone_digits(x)": r"regexp_replace(x, '\D', '', 'g')",
    "plain_name(x)": "lower(visible(x))",
    # Google, help 7659867 and "Format user data": lower case and trimmed, without titles (Mrs.) and suffixes (Jr.).
    # Accents (its template writes zoë and pérez), hyphens and apostrophes stay.
    "google_name(x)": r"""
        regexp_replace(
            regexp_replace(
                plain_name(x),
                '^((mrs?|ms|miss|dr|mme|mlle|madame|mademoiselle|monsieur)\.?|m\.) ', ''
            ),
            '[ ,]+(jr|sr)\.?$', ''
        )""",
    # Meta, "Customer information parameters": lower case, no punctuation. a-z is recommended, other letters are UTF-8:
    # it prints the hash of valéry with its accent. Its own normaliser also takes the blanks out of names.
    "meta_name(x)": r"regexp_replace(plain_name(x), '[\p{P}\p{S}\s]', '', 'g')",
    "plain_country(x)": "case when regexp_full_match(upper(visible(x)), '[A-Z]{2}') then upper(visible(x)) end",
    "zip_characters(x)": "regexp_replace(x, '[^A-Za-z0-9]', '', 'g')",
    # Google: as on a letter, with the four digits of a ZIP+4, by which more people are found. Not hashed, so only what
    # a postal code is made of: nothing that a spreadsheet could take for a formula. A French one has no blanks.
    "google_zip(x, country)": r"""
        case
            when country = 'FR' and regexp_full_match(zip_characters(x), '\d{5}') then zip_characters(x)
            else regexp_extract(
                upper(regexp_replace(visible(x), '[^A-Za-z0-9 -]', '', 'g')), '^[ -]*(.*?)[ -]*$', 1
            )
        end""",
    # Meta, "Customer information parameters": lower case, no blanks, no dash; of a US one the first five digits. Of a
    # British one all: its own example is m11ae.
    "meta_zip(x, country)": """
        case when country = 'US' then left(zip_characters(x), 5) else lower(zip_characters(x)) end""",
    # A spreadsheet runs a cell that begins with one of these; an apostrophe makes it text (OWASP, "CSV Injection").
    "neutral_text(x)": r"case when regexp_matches(x, '^\s*[=+\-@\t\r\n＝＋－＠]') then '''' || x else x end",
    # An apostrophe would make it another address; a quoted local part is the same address (RFC 5321, 4.1.2).
    "neutral_email(x)": r"""
        case
            when regexp_matches(x, '^[=+\-]') then
                '"' || regexp_extract(x, '^(.*)@', 1) || '"@' || regexp_extract(x, '@([^@]*)$', 1)
            else neutral_text(x)
        end""",
}

# One row per audience, destination and treated account, with its contact points of a type in their order of position.
# Names and postal code travel only where the person allowed the destination the address that they belong to.
_CANDIDATES = """
    with members as (
        select distinct members.audience, members.destination, members.account_id, audiences.kind
        from audience.members as members
        inner join audience.audiences as audiences on members.audience = audiences.audience
        where members.arm = 'treated' and members.destination = $destination
    ),

    points as (
        select
            kind,
            account_id,
            list(identifier order by position, identifier) filter (where identifier_type = 'email') as emails,
            list(identifier order by position, identifier) filter (where identifier_type = 'phone') as phones,
            bool_or(identifier_type = 'post') as has_address
        from audience.contact_points
        where destination = $destination
        group by kind, account_id
    ),

    candidates as (
        select
            members.audience,
            members.destination,
            members.account_id,
            points.emails,
            points.phones,
            coalesce(points.has_address, false) as has_address,
            golden_records.first_name,
            golden_records.last_name,
            golden_records.postal_code,
            -- A country that cannot be read is none, as any optional field; people without one live in the default one.
            coalesce(
                plain_country(golden_records.country), (select max(default_country) from landing.builds)
            ) as country
        from members
        left join points on members.kind = points.kind and members.account_id = points.account_id
        left join account.golden_records on members.account_id = golden_records.account_id
    )
"""


@dataclass(frozen=True)
class WrittenFile:
    """One file that was written. ``path`` is relative to the directory of the audiences."""

    audience: str
    destination: str
    path: Path
    row_count: int


@dataclass(frozen=True)
class RereadFile:
    """What re-reading one file found; all counts but ``row_count`` and ``member_count`` should be 0.

    ``member_count`` is the number of treated members that the file should hold, ``malformed_count`` the cells of hashed
    columns that are not 64 lower-case hexadecimal digits (and plain e-mails that are none), ``plain_contact_count`` the
    cells of a hashed file that look like an e-mail address or a telephone number, ``empty_hash_count`` the hashes of
    nothing, ``empty_row_count`` the lines without any identifier, ``formula_count`` the cells that a spreadsheet would
    run, ``repeated_count`` the lines that say the same as another one (people who share an address).
    """

    audience: str
    destination: str
    path: Path
    is_expected: bool
    is_header_right: bool
    is_private: bool
    row_count: int
    member_count: int
    malformed_count: int
    plain_contact_count: int
    empty_hash_count: int
    empty_row_count: int
    formula_count: int
    repeated_count: int
    sha256: str
    byte_count: int


def define_macros(connection: duckdb.DuckDBPyConnection) -> None:
    """Define how values are normalised and hashed, as temporary macros of this connection."""
    for signature, body in _MACROS.items():
        connection.execute(f"create or replace temp macro {signature} as {body}")


def audience_destinations(connection: duckdb.DuckDBPyConnection) -> list[tuple[str, str]]:
    """Every audience with each of its destinations, whether or not anybody is in it.

    Raises ValueError for a destination whose format is not known, or a name that cannot be a file's.
    """
    pairs = connection.execute(
        r"""
        select distinct audience, unnest(regexp_extract_all(cast(destinations as varchar), '\w+')) as destination
        from audience.audiences
        order by all
        """
    ).fetchall()
    for audience, destination in pairs:
        if destination not in FORMATS:
            raise ValueError(
                f"The audience {audience} names the destination {destination}, for which there is no file format: "
                f"add it to FORMATS in domain/activation.py, or use one of {', '.join(FORMATS)}."
            )
        if not _NAME.fullmatch(audience):
            raise ValueError(f"The audience name {audience!r} cannot name a folder: use a-z, 0-9 and _.")
    return pairs


def write_files(connection: duckdb.DuckDBPyConnection, directory: Path) -> list[WrittenFile]:
    """Write ``directory/<audience>/<destination>.csv`` for every audience and destination; replaces ``directory``.

    One line per treated member, in the order of a hash of the line: the order says nothing about anybody. An audience
    without members gets its file, with the header. Files are 0600 and folders 0700 from the first byte on. Leaves
    ``activation.file_rows`` (one row per line, with its account) for ``write_ledger``.
    """
    pairs = audience_destinations(connection)
    define_macros(connection)
    connection.execute("create schema if not exists activation")
    connection.execute(
        "create or replace table activation.file_rows"
        " (audience varchar, destination varchar, account_id varchar, cells varchar[])"
    )
    for destination in sorted({destination for _, destination in pairs}):
        cells = ", ".join(f"nullif({column.value}, '')" for column in FORMATS[destination])
        connection.execute(
            f"insert into activation.file_rows {_CANDIDATES}"
            f" select audience, destination, account_id, cast([{cells}] as varchar[]) from candidates",
            {"destination": destination},
        )
    if directory.exists():
        shutil.rmtree(directory)
    directory.mkdir(mode=0o700, parents=True)
    written = []
    for audience, destination in pairs:
        path = Path(audience) / f"{destination}.csv"
        (directory / audience).mkdir(mode=0o700, exist_ok=True)
        rows = _lines(connection, audience, destination)
        _write_csv(directory / path, [column.header for column in FORMATS[destination]], rows)
        written.append(WrittenFile(audience, destination, path, len(rows)))
    return written


def _lines(connection: duckdb.DuckDBPyConnection, audience: str, destination: str) -> list[tuple[str | None, ...]]:
    cells = ", ".join(
        f"{column.neutralised_by}(cells[{position}])" if column.neutralised_by else f"cells[{position}]"
        for position, column in enumerate(FORMATS[destination], start=1)
    )
    return connection.execute(
        f"""
        select {cells}
        from activation.file_rows
        where audience = $audience and destination = $destination
        order by md5(concat_ws('|', audience, destination, cast(cells as varchar))), cells
        """,
        {"audience": audience, "destination": destination},
    ).fetchall()


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[str | None]]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
        stream.flush()
        os.fsync(stream.fileno())


def write_ledger(
    connection: duckdb.DuckDBPyConnection,
    *,
    release_id: str,
    previous_release_id: str | None = None,
    previous_database: Path | None = None,
) -> int:
    """Write ``activation.ledger`` from the lines of ``write_files`` and the ledger before; returns its number of rows.

    One row per audience, destination, account, identifier type, identifier hash and unbroken run of releases. An
    identifier that is sent again moves its row's ``last_release_id``; one that pauses and returns starts a new row. So
    the ledger grows with what changes, not with the number of nights: a night that sends the same people adds nothing.
    The hash is the cell itself where the file is hashed, the SHA-256 of the address where it is plain, and of all
    address cells together (joined by ``|``) for ``post``.

    ``previous_database`` is the ``restricted.duckdb`` of the newest release that exists, rolled back or not (its files
    may have been sent), and ``previous_release_id`` its id. Nothing before it is forgotten.
    """
    earlier = _EMPTY_LEDGER
    continues = previous_database is not None and previous_release_id is not None
    if continues:
        connection.execute(f"attach '{_quoted(previous_database)}' as previous_release (read_only)")
    try:
        if continues and connection.execute(
            "select count(*) from duckdb_tables() where database_name = 'previous_release'"
            " and schema_name = 'activation' and table_name = 'ledger'"
        ).fetchall() == [(1,)]:
            earlier = "select * from previous_release.activation.ledger"
        connection.execute(
            f"create or replace table activation.ledger as {_LEDGER.format(earlier=earlier, sent=_sent_identifiers())}",
            {"release_id": release_id, "previous_release_id": previous_release_id or ""},
        )
    finally:
        if continues:
            connection.execute("detach previous_release")
    ((count,),) = connection.execute("select count(*) from activation.ledger").fetchall()
    return int(count)


_EMPTY_LEDGER = """
    select
        null::varchar as audience, null::varchar as destination, null::varchar as account_id,
        null::varchar as identifier_type, null::varchar as identifier_hash,
        null::varchar as first_release_id, null::varchar as last_release_id
    where false
"""

_LEDGER = """
    with sent as ({sent}),

    earlier as ({earlier}),

    open_runs as (
        select * from earlier where last_release_id = $previous_release_id
    ),

    now_sent as (
        select
            sent.audience,
            sent.destination,
            sent.account_id,
            sent.identifier_type,
            sent.identifier_hash,
            coalesce(open_runs.first_release_id, $release_id) as first_release_id,
            $release_id as last_release_id
        from sent
        left join open_runs using (audience, destination, account_id, identifier_type, identifier_hash)
    ),

    closed as (
        select earlier.*
        from earlier
        anti join now_sent
            using (audience, destination, account_id, identifier_type, identifier_hash, first_release_id)
    )

    select * from now_sent
    union all
    select * from closed
"""


def sent_among(connection: duckdb.DuckDBPyConnection, hashes: Sequence[str]) -> set[tuple[str, str, str]]:
    """Destination, type and hash of those of ``hashes`` that stand in the lines of ``write_files``."""
    return set(
        connection.execute(
            "select distinct destination, identifier_type, identifier_hash"
            f" from ({_sent_identifiers()}) where identifier_hash in (select unnest($1::varchar[]))",
            [list(hashes)],
        ).fetchall()
    )


def _sent_identifiers() -> str:
    """SQL for one row per audience, destination, account and identifier in the lines."""
    parts = []
    for destination, columns in FORMATS.items():
        by_type: dict[str, list[str]] = {}
        for position, column in enumerate(columns, start=1):
            if column.identifier is not None:
                by_type.setdefault(column.identifier, []).append(f"cells[{position}]")
        for identifier_type, cells in by_type.items():
            is_hashed = all(column.is_hashed for column in columns if column.identifier == identifier_type)
            if identifier_type == "post":
                values = f"[case when {' is not null or '.join(cells)} is not null then sha256(concat_ws('|', " + (
                    ", ".join(f"coalesce({cell}, '')" for cell in cells) + ")) end]"
                )
            else:
                values = f"[{', '.join(cell if is_hashed else f'sent_hash({cell})' for cell in cells)}]"
            parts.append(
                f"select audience, destination, account_id, '{identifier_type}' as identifier_type,"
                f" unnest({values}) as identifier_hash"
                f" from activation.file_rows where destination = '{destination}'"
            )
    union = " union all ".join(parts)
    return f"select distinct * from ({union}) where identifier_hash is not null"


def sent_hashes(destination: str, cells: Sequence[str]) -> list[str]:
    """The hashes by which the ledger knows one line of a destination's file, as it was written.

    A cell that was made harmless to a spreadsheet is taken back first: the ledger hashed what the cell means.
    """
    by_type: dict[str, list[tuple[Column, str]]] = {}
    for column, cell in zip(FORMATS[destination], cells, strict=True):
        if column.identifier is not None:
            by_type.setdefault(column.identifier, []).append((column, cell))
    found = []
    for identifier_type, parts in by_type.items():
        if identifier_type == "post":
            if any(cell for _, cell in parts):
                found.append(_sha256("|".join(cell for _, cell in parts)))
        else:
            found += [cell if column.is_hashed else _sha256(_meant(cell, column)) for column, cell in parts if cell]
    return found


def _meant(cell: str, column: Column) -> str:
    if column.neutralised_by == "neutral_email" and cell.startswith('"') and '"@' in cell:
        return cell[1:].replace('"@', "@", 1)
    return cell.removeprefix("'") if column.neutralised_by else cell


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def reread_files(connection: duckdb.DuckDBPyConnection, directory: Path) -> list[RereadFile]:
    """Read every file under ``directory`` again, as a stranger would, and measure it against ``audience.members``.

    One result per file that should be there or is there, in the order of their names; a missing file has no rows and
    an empty ``sha256``.
    """
    expected = {Path(audience) / f"{destination}.csv" for audience, destination in audience_destinations(connection)}
    found = {path.relative_to(directory) for path in directory.rglob("*") if path.is_file()}
    members = {
        Path(audience) / f"{destination}.csv": count
        for audience, destination, count in connection.execute(
            "select audience, destination, count(*) from audience.members where arm = 'treated' group by all"
        ).fetchall()
    }
    return [
        _reread(connection, directory, path, path in expected, members.get(path, 0))
        for path in sorted(expected | found)
    ]


def _reread(
    connection: duckdb.DuckDBPyConnection, directory: Path, path: Path, is_expected: bool, member_count: int
) -> RereadFile:
    audience, destination = path.parent.name, path.stem
    columns = FORMATS.get(destination)
    file = directory / path
    if columns is None or not file.exists():
        return RereadFile(
            audience, destination, path, is_expected, False, False, 0, member_count, 0, 0, 0, 0, 0, 0, "", 0
        )
    with file.open(encoding="utf-8", newline="") as stream:
        header = next(csv.reader(stream), [])
    is_header_right = header == [column.header for column in columns]
    counts: tuple[int, ...] = (0, 0, 0, 0, 0, 0, 0)
    if is_header_right:
        (counts,) = connection.execute(_reread_sql(columns, file)).fetchall()
    is_private = not (file.stat().st_mode & 0o077 or file.parent.stat().st_mode & 0o077)
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    row_count, malformed, plain, nothing, empty, formulas, repeated = (int(count) for count in counts)
    return RereadFile(
        audience=audience,
        destination=destination,
        path=path,
        is_expected=is_expected,
        is_header_right=is_header_right,
        is_private=is_private,
        row_count=row_count,
        member_count=member_count,
        malformed_count=malformed,
        plain_contact_count=plain,
        empty_hash_count=nothing,
        empty_row_count=empty,
        formula_count=formulas,
        repeated_count=repeated,
        sha256=digest,
        byte_count=file.stat().st_size,
    )


def _reread_sql(columns: Sequence[Column], file: Path) -> str:
    names = [f"c{position}" for position in range(1, len(columns) + 1)]
    hashed = [name for name, column in zip(names, columns, strict=True) if column.is_hashed]
    identifying = [name for name, column in zip(names, columns, strict=True) if column.identifier]
    addresses = [
        name
        for name, column in zip(names, columns, strict=True)
        if column.identifier == "email" and not column.is_hashed
    ]

    def total(condition: str, cells: Sequence[str]) -> str:
        counted = [f"coalesce(sum(cast({condition.format(cell=cell)} as int)), 0)" for cell in cells]
        return " + ".join(counted) or "0"

    malformed = total("not regexp_full_match({cell}, '[0-9a-f]{{64}}')", hashed)
    no_address = total(r"not regexp_full_match({cell}, '[^\s@]+@[^\s@]+|\"[^\"]+\"@[^\s@]+')", addresses)
    plain = total(r"regexp_matches({cell}, '@|^\+?[0-9][0-9 .]{{8,}}$')", names if hashed else [])
    nothing = total("{cell} = '" + _HASH_OF_NOTHING + "'", names)
    formulas = total(r"regexp_matches({cell}, '^\s*[=+\-@\t\r\n]')", names)
    empty = f"coalesce(sum(cast(coalesce({', '.join(identifying)}) is null as int)), 0)"
    types = ", ".join(f"'{name}': 'varchar'" for name in names)
    return f"""
        select
            count(*), {malformed} + {no_address}, {plain}, {nothing}, {empty}, {formulas},
            count(*) - count(distinct struct_pack({", ".join(f"{name} := {name}" for name in names)}))
        from read_csv(
            '{_quoted(file)}', auto_detect = false, header = false, skip = 1, delim = ',', quote = '"', escape = '"',
            nullstr = '', columns = {{{types}}}
        )
    """


def _quoted(path: Path | None) -> str:
    return str(path).replace("'", "''")
