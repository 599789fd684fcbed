"""The parts of the documentation that the code writes: ``python -m dagster_project.dictionary docs/``.

The data dictionary and the register of processing are pages of their own. Other pages hold generated blocks between two
marks: the feeds of the source contract, the statements of each gate, the settings. What belongs here: how these look as
Markdown. What does not: any description; those stand in the YAML, in the suites and in the settings, once.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from dagster_project.domain.contract import CONTRACT_FILE, Column, Feed, feeds
from dagster_project.domain.privacy.processing import BASES, Processing, read_processings
from dagster_project.project import DBT_DIRECTORY
from dagster_project.quality.statements import Suite
from dagster_project.quality.suites import account, activation, audience, identity, landing, release, segment, staging
from dagster_project.settings import Settings
from dagster_project.stages import LANDING, OWNERS, STAGES
from dagster_project.transform import read_variables

DICTIONARY = "data-dictionary.md"
REGISTER = "processing.md"
# Defaults that depend on the machine are said in words, for the page must not change with it.
_DEFAULTS_IN_WORDS = {"threads": "as many as the machine has processors"}
_READERS = {"analysts": "`cocanal.duckdb`", "restricted": "`restricted.duckdb`", None: "working database only"}
_DIALECTS = {
    "shop": "UTF-8, comma, ISO 8601",
    "pos": "latin-1, semicolon, decimal comma, Paris time",
}


def _one_line(text: Any) -> str:
    """Text as it may stand in a cell of a table."""
    return " ".join(str(text if text is not None else "").split()).replace("|", "\\|")


def _table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [header, tuple("---" for _ in header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _meta(node: dict[str, Any]) -> dict[str, Any]:
    meta: dict[str, Any] = (node.get("config") or {}).get("meta") or {}
    return meta


def described_tables(stage: str) -> list[dict[str, Any]]:
    """The tables of a stage as their dbt YAML describes them, by name; the feeds of the contract are not among them."""
    found: list[dict[str, Any]] = []
    for path in sorted((DBT_DIRECTORY / "models" / stage).glob("*.yml")):
        if path == CONTRACT_FILE:
            continue
        page = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        found += page.get("models") or []
        found += [table for source in page.get("sources") or [] for table in source["tables"]]
    return sorted(found, key=lambda table: table["name"])


def _audience_lines(meta: dict[str, Any]) -> list[str]:
    said = meta.get("audience")
    if not said:
        return []
    places = ", ".join(f"`{destination}`" for destination in said["destinations"])
    return [
        f"Audience ({said['kind']}) of {said['owner']}, to be reviewed by {said['review_on']}: "
        f"{_one_line(said['purpose'])} Goes to {places}.",
        "",
    ]


def _column_row(column: dict[str, Any]) -> tuple[str, ...]:
    mark = " *personal*" if _meta(column).get("personal") else ""
    return (f"`{column['name']}`", str(column.get("data_type", "")), _one_line(column["description"]) + mark)


def _table_section(stage: str, table: dict[str, Any]) -> list[str]:
    meta = _meta(table)
    return [
        f"### `{stage}.{table['name']}`",
        "",
        _one_line(table["description"]),
        "",
        f"In: {_READERS[meta.get('release')]}.",
        "",
        *_audience_lines(meta),
        _table(("column", "type", "meaning"), [_column_row(column) for column in table["columns"]]),
        "",
    ]


def _anchor(stage: str, table: str) -> str:
    return f"#{stage}{table}"


def _parameters() -> str:
    project = yaml.safe_load((DBT_DIRECTORY / "dbt_project.yml").read_text(encoding="utf-8"))
    return _table(
        ("parameter", "value"),
        [
            (f"`{name}`", f"`{value}`")
            for name, value in sorted(project["vars"].items())
            if isinstance(value, int | float | str)
        ],
    )


def dictionary_page() -> str:
    """The data dictionary: every table of the walk with its grain, who may read it, and its columns."""
    lines = [
        "# Data dictionary",
        "",
        "Written by `make docs` from the YAML beside the models; do not edit it here.",
        "",
        "`cocanal.duckdb` is for analysts and holds no direct identifiers. `restricted.duckdb` is for explaining and",
        "tracing. The working database is the run's alone. Columns marked *personal* name or reach a person.",
        "Timestamps are UTC. The [glossary](glossary.md) explains the words, the [walk](walk.md) the stages.",
        "",
    ]
    for stage in STAGES:
        lines += [f"- [{stage}](#{stage})"]
    lines += ["- [parameters of the models](#parameters-of-the-models)", ""]
    for stage in STAGES:
        tables = described_tables(stage)
        lines += [f"## {stage}", "", f"Owner: `{OWNERS[stage]}`. Chapter of the walk: [{stage}](walk.md#{stage}).", ""]
        if stage == LANDING:
            lines += [
                "Besides these the working database has a view `landing.<feed>` for each feed of the",
                "[contract](source-contract.md#feeds): its columns as text, with `file`, `file_no`, `line` and",
                "`delivered_on`.",
                "",
            ]
        lines += [
            _table(
                ("table", "in", "grain"),
                [
                    (
                        f"[`{stage}.{table['name']}`]({_anchor(stage, table['name'])})",
                        _READERS[_meta(table).get("release")],
                        re.split(r"[.;:](?:\s|$)", _one_line(table["description"]))[0],
                    )
                    for table in tables
                ],
            ),
            "",
        ]
        for table in tables:
            lines += _table_section(stage, table)
    lines += [
        "## Parameters of the models",
        "",
        "From `vars` in `dbt/dbt_project.yml`, where each has its comment.",
        "",
        _parameters(),
        "",
    ]
    return "\n".join(lines)


def personal_columns(tables: Sequence[str]) -> list[str]:
    """The columns marked as personal in stages (``landing``) or tables (``account.accounts``), by name, each once.

    Raises KeyError for one that is not there.
    """
    found: set[str] = set()
    for asked in tables:
        stage, _, name = asked.partition(".")
        there = [table for table in described_tables(stage) if name in ("", table["name"])] if stage in STAGES else []
        if not there:
            raise KeyError(f"the register of processing names {asked}, which no YAML describes")
        found |= {column["name"] for table in there for column in table["columns"] if _meta(column).get("personal")}
        if asked == LANDING:
            found |= {column.name for feed in feeds().values() for column in feed.columns if column.personal}
    return sorted(found)


def _periods(names: Sequence[str]) -> str:
    fields = Settings.model_fields
    said = (
        f"`COCANAL_{name.upper()}` (default: {_said_default(fields[name].default)}): {fields[name].description}"
        for name in names
    )
    return "<br>".join(_one_line(each) for each in said)


def _said_default(value: Any) -> str:
    return "for ever" if value in (None, {}) else f"{value}"


def _entry(title: str, rows: Sequence[tuple[str, str]]) -> list[str]:
    return [f"### {title}", "", _table(("", ""), [(name, _one_line(value)) for name, value in rows]), ""]


def _processing_section(each: Processing) -> list[str]:
    columns = personal_columns(each.tables)
    data = f"{', '.join(f'`{name}`' for name in columns)}; besides: {each.besides}" if columns else each.besides
    return _entry(
        each.name,
        [
            ("why", each.purpose),
            ("on what basis", each.basis),
            ("of whom", each.people),
            ("what", data),
            ("in", ", ".join(f"`{table}`" for table in each.tables)),
            ("to whom", each.recipients),
            ("how long", _periods(each.kept)),
        ],
    )


def _audience_section(name: str, said: dict[str, Any], purposes: dict[str, str]) -> list[str]:
    is_service = said["kind"] == "service"
    bases = ["service"] if is_service else list(dict.fromkeys(purposes[place] for place in said["destinations"]))
    profiling = "yes: nobody who refused it is in" if said.get("is_profiling") else "no"
    return _entry(
        f"Audience `{name}`",
        [
            ("why", said["purpose"]),
            ("on what basis", "; ".join(BASES[purpose] for purpose in bases)),
            (
                "of whom",
                "who qualifies and passes every rule of `audience.eligibility`; the waterfall says who did not",
            ),
            ("profiling", profiling),
            ("to whom", ", ".join(f"`{place}`" for place in said["destinations"])),
            ("answers for it", f"{said['owner']}; looked at again by {said['review_on']}, or nobody leaves"),
            ("how long", _periods(("keep_releases",))),
        ],
    )


def _destination_section(said: dict[str, Any]) -> list[str]:
    kind = (
        "another company (partner)" if said.get("is_partner") else "a platform" if said["is_third_party"] else "our own"
    )
    kinds = ", ".join(f"{name} (at most {most})" for name, most in said["identifiers"].items())
    how = (
        "in the clear"
        if not said["is_third_party"]
        else "hashed as it asks, postcode and country of Google in the clear"
    )
    return _entry(
        f"Destination `{said['name']}`",
        [
            ("who", f"{_one_line(said['description'])} {kind}"),
            ("why", "what the audience says that is sent"),
            ("on what basis", BASES[said["purpose"]]),
            ("what", f"{kinds}; {how}: [what each platform receives](audiences.md)"),
            ("how long", "what was sent is in `activation.ledger`, by hash, for as long as the account is kept"),
            ("told to forget", _periods(("removal_days",))),
        ],
    )


def register_page() -> str:
    """The register of processing: what is done with whose data, why, on what basis, for how long, to whom it goes."""
    variables = read_variables()
    destinations = variables["destinations"]
    purposes = {each["name"]: each["purpose"] for each in destinations}
    audiences = {table["name"]: _meta(table).get("audience") for table in described_tables("audience")}
    lines = [
        "# Register of processing",
        "",
        "Written by `make docs`; do not edit it here. The words stand in",
        "`dagster_project/domain/privacy/processing.yml` and in the metadata of audiences and destinations, the",
        "columns are those marked *personal* in the YAML beside the models, the periods are settings.",
        "",
        "It is what GDPR, article 30(1) asks of the part of the processing that Cocanal does. A deployment adds its",
        "name and its data-protection officer, weighs the bases, which are proposals, and says to which countries the",
        "platforms take what they are sent. What must be decided is listed in",
        "[privacy](privacy.md#what-a-deployment-must-decide-itself), the measures of protection (article 32) in",
        "[who sees what](privacy.md#who-sees-what).",
        "",
        "## What is done with people's data",
        "",
    ]
    for each in read_processings():
        lines += _processing_section(each)
    lines += ["## Audiences", ""]
    for name in variables["audiences"]:
        lines += _audience_section(name, audiences[name] or {}, purposes)
    lines += ["## Whom it is sent to", ""]
    for each in destinations:
        lines += _destination_section(each)
    return "\n".join(lines)


def _column_of_feed(column: Column) -> tuple[str, ...]:
    notes = [_one_line(column.description)]
    if column.choices:
        notes.append("One of " + ", ".join(f"`{choice}`" for choice in column.choices) + ".")
    if column.past:
        notes.append("Lies in the past.")
    name = f"**`{column.name}`**" if column.mandatory else f"`{column.name}`"
    return (name, column.type, " ".join(notes))


def _feed_section(feed: Feed) -> str:
    facts = [f"Key: {', '.join(f'`{name}`' for name in feed.key)}.", f"CSV: {_DIALECTS[feed.dialect]}."]
    if feed.whole_table:
        facts.append("Each delivery is the whole table: a row that the last one does not hold is gone.")
    elif feed.version:
        facts.append(f"Of several rows of a key the greatest `{feed.version}` wins.")
    else:
        facts.append("Of several rows of a key the latest delivery wins.")
    if feed.header:
        facts.append(f"A line counts once its header is in `{feed.header}`.")
    rows = [_column_of_feed(column) for column in feed.columns]
    return "\n\n".join(
        [
            f"### `{feed.name}`",
            _one_line(feed.description),
            " ".join(facts),
            _table(("column", "type", "meaning"), rows),
        ]
    )


def feeds_block() -> str:
    """The feeds of the contract with their columns, as they stand in ``contract.yml``."""
    return "\n\n".join(_feed_section(feed) for feed in feeds().values())


def suites(settings: Settings) -> dict[str, Suite]:
    """Every gate by its stage, with the limits of these settings."""
    found = (
        landing.suite(settings),
        staging.suite(settings),
        identity.suite(has_previous=True),
        account.suite(),
        segment.suite(),
        audience.suite(has_previous=True, variables=read_variables()),
        activation.suite(),
        release.suite(),
    )
    return {suite.stage: suite for suite in found}


def gate_block(suite: Suite) -> str:
    """The statements of a gate: what it expects, what it does otherwise, and its advice."""
    rows = []
    for statement in suite.statements:
        does = "warns" if statement.severity == "warn" else "stops" if statement.is_acceptable else "stops, always"
        rows.append((f"`{statement.name}`", statement.expected, does, _one_line(statement.advice)))
    return _table(("statement", "expected", "otherwise", "what to do"), rows)


def settings_block() -> str:
    """Every setting: its variable, its default and what it does."""
    rows = []
    for name, field in Settings.model_fields.items():
        default = _DEFAULTS_IN_WORDS.get(name) or ("none" if field.default is None else f"`{field.default}`")
        rows.append((f"`COCANAL_{name.upper()}`", default, _one_line(field.description)))
    return _table(("variable", "default", "what it does"), rows)


def blocks() -> dict[str, str]:
    """Every generated block by the name that its marks carry."""
    defaults = Settings.model_construct()  # without the environment: the page says what holds where nothing is set
    return {
        "feeds": feeds_block(),
        "settings": settings_block(),
        **{f"gate {stage}": gate_block(suite) for stage, suite in suites(defaults).items()},
    }


_BLOCK = re.compile(r"<!-- generated: (?P<name>[a-z ]+?) -->\n.*?<!-- end: (?P=name) -->", re.DOTALL)


def filled_in(text: str) -> str:
    """The page with each of its generated blocks written anew. Raises KeyError for a block that nobody writes."""
    written = blocks() if _BLOCK.search(text) else {}

    def block(found: re.Match[str]) -> str:
        name = found["name"]
        return f"<!-- generated: {name} -->\n\n{written[name]}\n\n<!-- end: {name} -->"

    return _BLOCK.sub(block, text)


def pages(docs: Path) -> Iterator[tuple[Path, str]]:
    """Every page of ``docs`` that is generated, whole or in part, with the text that it should have."""
    yield docs / DICTIONARY, dictionary_page()
    yield docs / REGISTER, register_page()
    for path in sorted(docs.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        if path.name not in (DICTIONARY, REGISTER) and _BLOCK.search(text):
            yield path, filled_in(text)


def main(arguments: list[str]) -> int:
    """Write the generated pages of the folder that is named; 2 where none is."""
    if len(arguments) != 1 or not Path(arguments[0]).is_dir():
        print("Usage: python -m dagster_project.dictionary FOLDER_OF_THE_DOCUMENTATION", file=sys.stderr)
        return 2
    for path, text in pages(Path(arguments[0])):
        path.write_text(text, encoding="utf-8")
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
