"""The pages say what is: generated parts are up to date, links lead somewhere, named commands and settings exist."""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from dagster_project import dictionary
from dagster_project.cli import app
from dagster_project.domain.contract import feeds
from dagster_project.domain.landing.csv_rows import RULE_OF_ERROR
from dagster_project.domain.privacy.processing import read_processings
from dagster_project.settings import Settings
from dagster_project.stages import STAGES

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.glob("*.md")])

_CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


def _each(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def _anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    without_code = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in _HEADING.findall(without_code)}


def test_no_table_with_personal_columns_is_missing_from_the_register_of_processing() -> None:
    """Who adds a table about people says what it is for, or the register is not whole."""
    named = [table for processing in read_processings() for table in processing.tables]
    for stage in STAGES:
        for table in dictionary.described_tables(stage):
            place = f"{stage}.{table['name']}"
            if dictionary.personal_columns([place]):
                assert stage in named or place in named, place
    assert {name for processing in read_processings() for name in processing.kept} <= set(Settings.model_fields)


@pytest.mark.parametrize("page, text", dictionary.pages(DOCS), ids=lambda value: getattr(value, "name", ""))
def test_generated_parts_are_what_the_code_says(page: Path, text: str) -> None:
    assert page.read_text(encoding="utf-8") == text, f"{page.name} is out of date: run «make docs»"


def test_every_gate_stands_in_the_walk_and_the_other_blocks_stand_somewhere() -> None:
    written = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    assert [name for name in dictionary.blocks() if f"<!-- generated: {name} -->" not in written] == []
    walk = (DOCS / "walk.md").read_text(encoding="utf-8")
    assert [stage for stage in STAGES if f"\n## {stage}\n" not in walk] == []


def test_every_type_of_the_contract_is_explained() -> None:
    text = (DOCS / "source-contract.md").read_text(encoding="utf-8")
    table = text.split("## What a value looks like")[1].split("\n## ")[0]
    explained = {
        word
        for line in table.splitlines()
        for word in re.findall(r"\w+", line.split("|")[1:2][0] if "|" in line else "")
    }
    assert {column.type for feed in feeds().values() for column in feed.columns} <= explained


def test_what_is_said_of_a_defective_delivery_is_what_the_code_says() -> None:
    text = (DOCS / "reliability.md").read_text(encoding="utf-8").split("## What becomes of a defective delivery")[1]
    table = "\n".join(line for line in text.split("\n## ")[0].splitlines() if line.startswith("| "))
    code = "\n".join(
        path.read_text(encoding="utf-8")
        for folder, kind in (("dagster_project/domain", "*.py"), ("dbt/macros", "*.sql"))
        for path in sorted((ROOT / folder).rglob(kind))
    )
    said = re.sub(r'"\s+f?"', "", code)  # a sentence may go over several lines
    sentences = re.findall("“([^”]+)”", table)
    assert len(sentences) > 20
    assert [sentence for sentence in sentences if sentence not in said] == []
    rules = {name for cell in re.findall(r"rule (`[a-z_`, ]+)", table) for name in re.findall(r"[a-z_]+", cell)}
    assert {*RULE_OF_ERROR.values()} - {"cut_off"} <= rules
    assert [rule for rule in rules if rule not in code] == []


@pytest.mark.parametrize("page", PAGES, ids=_each)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    broken = []
    for target in _LINK.findall(_CODE.sub(lambda code: "" if code[0].startswith("```") else code[0], text)):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        path = page.parent / name if name else page
        if not path.exists() or (anchor and anchor not in _anchors(path.read_text(encoding="utf-8"))):
            broken.append(target)
    assert broken == []


def _commands(text: str) -> Iterator[list[str]]:
    """Every ``cocanal ...`` in code, as words."""
    for code in _CODE.findall(text):
        for found in re.findall(r"(?:^|`|/bin/|uv run )cocanal((?: +[^\s`#|;]+)*)", code, re.MULTILINE):
            yield found.split()


def _complaint(words: list[str]) -> str | None:
    command: Any = typer.main.get_command(app)
    rest = list(words)
    while rest and hasattr(command, "commands") and not rest[0].startswith("-"):
        word = rest.pop(0).rstrip(".,:)")
        if word not in command.commands:
            return f"there is no command «{word}» in «cocanal {' '.join(words)}»"
        command = command.commands[word]
    options = {name for parameter in command.params for name in parameter.opts} | {"--help"}
    unknown = [word for word in rest if word.startswith("--") and word.split("=")[0] not in options]
    return f"«cocanal {' '.join(words)}» has no {', '.join(unknown)}" if unknown else None


@pytest.mark.parametrize("page", PAGES, ids=_each)
def test_every_command_that_is_named_exists(page: Path) -> None:
    complaints = [_complaint(words) for words in _commands(page.read_text(encoding="utf-8"))]
    assert [complaint for complaint in complaints if complaint] == []


@pytest.mark.parametrize("page", PAGES, ids=_each)
def test_every_make_target_and_setting_that_is_named_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    named = {word for code in _CODE.findall(text) for word in re.findall(r"(?:^|[\s`])make ([a-z]+)", code)}
    assert named <= targets
    settings = {f"COCANAL_{name.upper()}" for name in Settings.model_fields}
    # A variable of the operator's own, named in dagster.yaml.
    assert set(re.findall(r"COCANAL_[A-Z_]+", text)) <= settings | {"COCANAL_DAGSTER_POSTGRES"}


def test_every_dependency_says_why_it_is_there() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wanted = project["project"]["dependencies"] + project["dependency-groups"]["dev"]
    names = {re.split(r"[<>=!~\[; ]", requirement)[0] for requirement in wanted}
    section = (DOCS / "decisions.md").read_text(encoding="utf-8").split("\n## Dependencies\n")[1]
    tables = [line for line in section.splitlines() if line.startswith("| `")]
    assert {name for name in names if f"`{name}`" not in section} == set()
    assert {re.findall(r"`([^`]+)`", line)[0] for line in tables} <= names


def test_no_page_speaks_of_the_machine_that_it_was_written_on() -> None:
    # Put together here, so that this file does not say them either.
    words = ["/" + "work", "shared" + "/", "." + "library"]
    written = [
        *PAGES,
        ROOT / "Makefile",
        *(ROOT / "dagster_project").rglob("*.py"),
        *(ROOT / "dbt" / "models").rglob("*.*"),
    ]
    assert [(_each(page), word) for page in written for word in words if word in page.read_text(encoding="utf-8")] == []
