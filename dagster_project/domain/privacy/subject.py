"""Whom an erasure is about, as values: the accounts, the source records, and the identifiers that nobody else holds.

Here belong the shape, how it is kept between the steps of an erasure (``write_subjects``, ``read_subjects``), and how
it becomes tables for SQL (``create_subject_tables``). Not for finding out who it is: ``resolution``; nor for any file
that an erasure rewrites.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import duckdb
import pyarrow as pa

from dagster_project.domain.private_file import write_private_lines

Because = Literal["erasure", "retention"]

_MOMENTS = ("received_at", "until_at")
_SETS = (
    "account_ids",
    "emails",
    "phones",
    "customer_ids",
    "card_ids",
    "payment_tokens",
    "addresses",
    "spellings",
)
IDENTIFIER_TYPES = {
    "emails": "email",
    "phones": "phone",
    "customer_ids": "customer_id",
    "card_ids": "card_id",
    "payment_tokens": "payment_token",
    "addresses": "address",
    "spellings": "spelling",
}
"""Field of a subject -> the ``type`` of its values in the table ``subject_identifiers``."""

# A row that could not be read as a row is one text: each of its words is compared, and each number.
WORDS_OF_TEXT = r"regexp_split_to_array(coalesce(_text, ''), '[\s;,\"|]+')"
"""SQL: the words of such a text."""
NUMBERS_OF_TEXT = r"regexp_extract_all(coalesce(_text, ''), '\+?[0-9(][0-9() .\x{00A0}\x{202F}/_-]{7,}[0-9]')"
"""SQL: what looks like a phone number in it."""


@dataclass(frozen=True)
class Subject:
    """One person to erase (``because`` erasure), or all whose period is over (retention: one subject for all of them).

    ``received_at``: moment of the request, ``until_at``: moment up to which everything goes, both in UTC without zone;
    what the person does after it is a new relation, and no part of the subject. ``records``: (feed, record_id) of every
    record linked to the accounts, and of records without an account that hold an identifier of the subject. Somebody
    without an account is the identifier that the request names, and the records without an account that hold it.

    The other sets hold only what no record of anybody else holds: e-mails in lower case (every delivered address of a
    mailbox of theirs, `a.b+x@gmail.com` being that of `ab@gmail.com`), phones in E.164, numbers of
    web accounts and loyalty cards, payment tokens, ``addresses`` (address_line1 as delivered), and ``spellings``, every
    way in which one of the e-mails or phones was delivered, where it differs from the standard form. ``shared`` holds
    (type, value) of what somebody else's record holds too, or the person gave again after the request: it stays there.
    ``spared`` holds (feed, record_id) of somebody else's records that name one of the person's numbers: only that goes.
    """

    request_id: str
    received_at: datetime
    because: Because
    until_at: datetime
    account_ids: frozenset[str] = frozenset()
    records: frozenset[tuple[str, str]] = frozenset()
    emails: frozenset[str] = frozenset()
    phones: frozenset[str] = frozenset()
    customer_ids: frozenset[str] = frozenset()
    card_ids: frozenset[str] = frozenset()
    payment_tokens: frozenset[str] = frozenset()
    addresses: frozenset[str] = frozenset()
    spellings: frozenset[str] = frozenset()
    shared: frozenset[tuple[str, str]] = frozenset()
    spared: frozenset[tuple[str, str]] = frozenset()


def write_subjects(path: Path, subjects: Iterable[Subject]) -> None:
    """Keep subjects in a file that only its owner reads, whole or not at all."""
    lines = []
    for subject in subjects:
        values = asdict(subject)
        values |= {name: values[name].isoformat() for name in _MOMENTS}
        values |= {name: sorted(values[name]) for name in (*_SETS, "records", "shared", "spared")}
        lines.append(json.dumps(values, ensure_ascii=False, sort_keys=True))
    write_private_lines(path, (line + "\n" for line in lines))


def read_subjects(path: Path) -> list[Subject]:
    """The subjects as they were written."""
    return [_subject(json.loads(line)) for line in path.read_text(encoding="utf-8").split("\n") if line]


def _subject(values: dict) -> Subject:
    sets: dict[str, Any] = {name: frozenset(values[name]) for name in _SETS}
    for name in ("records", "shared", "spared"):
        sets[name] = frozenset((first, second) for first, second in values[name])
    sets |= {name: datetime.fromisoformat(values[name]) for name in _MOMENTS}
    return Subject(request_id=values["request_id"], because=values["because"], **sets)


def create_subject_tables(connection: duckdb.DuckDBPyConnection, subjects: Sequence[Subject]) -> None:
    """Create the temp tables ``subject_accounts`` (account_id), ``subject_records`` (feed, record_id),
    ``subject_identifiers`` (type, value) and ``subject_hashes`` (identifier_hash), each with ``request_id``: one row
    per subject and thing that is its own.
    """
    text = pa.string()
    accounts = [(each.request_id, account) for each in subjects for account in sorted(each.account_ids)]
    records = [(each.request_id, *record) for each in subjects for record in sorted(each.records)]
    identifiers = [
        (each.request_id, type_, value)
        for each in subjects
        for field, type_ in IDENTIFIER_TYPES.items()
        for value in sorted(getattr(each, field))
    ]
    hashes = [(each.request_id, value) for each in subjects for value in sorted(hashes_of(each))]
    for table, rows, names in (
        ("subject_accounts", accounts, ("request_id", "account_id")),
        ("subject_records", records, ("request_id", "feed", "record_id")),
        ("subject_identifiers", identifiers, ("request_id", "type", "value")),
        ("subject_hashes", hashes, ("request_id", "identifier_hash")),
    ):
        columns = list(zip(*rows, strict=True)) or [()] * len(names)
        told = pa.table([pa.array(column, text) for column in columns], names=names)  # noqa: F841 - read by the SQL
        connection.execute(f"create or replace temp table {table} as select * from told")


def hashes_of(subject: Subject) -> set[str]:
    """The hashes of the own e-mails and phones as destinations know them and as the identity stage keeps them: not of a
    form that is somebody else's address too.
    """
    found: set[str] = set()
    theirs = {value for type_, value in subject.shared if type_ == "email"}
    for email in subject.emails:
        found |= _hashes("email", email, _email_forms(email) - theirs)
    for phone in subject.phones:
        found |= _hashes("phone", phone, {phone, phone.removeprefix("+")})
    return found


def _email_forms(email: str) -> set[str]:
    """As Meta wants it, as Google does (no dots and no tag at Gmail), and as the identity stage compares it."""
    local, _, domain = email.rpartition("@")
    bare = local.split("+")[0].replace(".", "")
    return {email, f"{bare}@{domain}", f"{local.split('+')[0]}@{domain}", f"{bare}@gmail.com"}


def _hashes(type_: str, value: str, forms: set[str]) -> set[str]:
    sent = {hashlib.sha256(form.encode()).hexdigest() for form in forms}
    return sent | {hashlib.sha256(f"{type_}|{form}".encode()).hexdigest()[:16] for form in {value, *forms}}


def mailbox_of(email: str) -> str:
    """SQL of the mailbox of an e-mail in standard form: without a tag (`+x`), and at Gmail without dots, which mean
    nothing there. Whoever has the one address has the other.
    """
    box = f"regexp_replace(split_part({email}, '@', 1), '[+].*$', '')"
    domain = f"split_part({email}, '@', 2)"
    return (
        f"case when {domain} in ('gmail.com', 'googlemail.com') then replace({box}, '.', '') || '@gmail.com'"
        f" else {box} || '@' || {domain} end"
    )


def standard_email(value: str) -> str:
    """SQL of an e-mail as it is compared, from one as delivered: that of staging, for what was never staged too."""
    return rf"lower(regexp_replace({value}, '\p{{Cf}}|^[\p{{Z}}\s]+|[\p{{Z}}\s]+$', '', 'g'))"
