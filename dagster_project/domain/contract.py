"""The source contract as values: which feeds exist, and the type of each of their columns.

The one table of columns and types is ``dbt/models/landing/contract.yml`` (dbt reads the same file as its sources); this
module only gives it a shape in Python. What a value of a type looks like in a file is said here, in words and by
example, for the supplier's check and the documentation; how it is parsed lives in the dbt macro ``parsed``.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import yaml

from dagster_project.project import DBT_DIRECTORY

CONTRACT_FILE = DBT_DIRECTORY / "models" / "landing" / "contract.yml"


@dataclass(frozen=True)
class Column:
    """One column of a feed.

    ``type`` is one of ``text, name, address, city, country, postal_code, email, phone, key_value, moment, date, time,
    boolean, integer, decimal, amount``.
    """

    name: str
    type: str
    description: str
    mandatory: bool = False
    past: bool = False
    personal: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Feed:
    """One feed of the contract.

    ``dialect`` is ``shop`` (UTF-8, comma, ISO 8601) or ``pos`` (latin-1, semicolon, decimal comma, Paris time);
    ``version`` names the column whose greatest value wins; ``header`` names the feed that a line belongs to.
    """

    name: str
    description: str
    key: tuple[str, ...]
    dialect: str
    columns: tuple[Column, ...]
    version: str | None = None
    header: str | None = None
    whole_table: bool = False

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns)


def _column(node: dict[str, Any]) -> Column:
    meta = node["config"]["meta"]
    return Column(
        name=node["name"],
        type=meta["type"],
        description=node["description"],
        mandatory=meta.get("mandatory", False),
        past=meta.get("past", False),
        personal=meta.get("personal", False),
        choices=tuple(meta.get("choices", ())),
    )


@cache
def feeds() -> dict[str, Feed]:
    """Every feed of the contract by name, in the order in which the contract lists them."""
    (source,) = yaml.safe_load(CONTRACT_FILE.read_text(encoding="utf-8"))["sources"]
    found = {}
    for table in source["tables"]:
        meta = table["config"]["meta"]
        found[table["name"]] = Feed(
            name=table["name"],
            description=table["description"],
            key=tuple(meta["key"]),
            dialect=meta["dialect"],
            columns=tuple(_column(node) for node in table["columns"]),
            version=meta.get("version"),
            header=meta.get("header"),
            whole_table=meta.get("whole_table", False),
        )
    return found
