"""The settings of a deployment: the only reader of the environment.

Each is an environment variable ``COCANAL_<NAME>``; ``cocanal settings`` lists them. Not for business rules: those are
models, policies and the metadata of audiences, where a change can be reviewed.
"""

import json
import os
import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, HttpUrl, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from dagster_project.domain.contract import feeds

_Share = Annotated[float, Field(ge=0, le=1)]

# Variables that the documentation names for Dagster's configuration.
_OF_DEPLOYMENTS = {"COCANAL_DAGSTER_POSTGRES", "COCANAL_CURRENT_RELEASE"}


class SettingsError(Exception):
    """A setting is wrong; the message is a sentence per setting that says what it must be."""


class Settings(BaseSettings):
    """Typed settings, with the folders that follow from ``home``."""

    model_config = SettingsConfigDict(env_prefix="COCANAL_", frozen=True, extra="ignore")

    home: Path = Field(Path("var"), description="Folder of everything that this deployment writes.")
    threads: int = Field(os.cpu_count() or 1, ge=1, description="Threads that DuckDB may use.")
    memory_limit: str = Field("4GB", pattern=r"^\d+(\.\d+)?\s?[KMGT]i?B$", description="Memory that DuckDB may use.")
    currency: str = Field("EUR", pattern=r"^[A-Z]{3}$", description="ISO 4217 code of all amounts.")
    default_country: str = Field("FR", pattern=r"^[A-Z]{2}$", description="ISO 3166 code for people without a country.")
    holdout_share: _Share = Field(0.1, description="Share of an audience held out where the audience names none.")
    global_holdout_share: _Share = Field(0.02, description="Share of all accounts that no marketing reaches.")
    holdout_salt: str = Field("cocanal", min_length=1, description="Makes the draw of this deployment its own.")
    keep_releases: int = Field(7, ge=1, description="Releases that stay; older ones are removed.")
    keep_runs_days: int = Field(60, ge=1, description="Days that Dagster's own record of a run stays.")
    keep_raw_days: Annotated[dict[str, Annotated[int, Field(ge=1)]], NoDecode] = Field(
        {}, description="Feed -> days that its deliveries count and stay, as JSON; a feed that is not named: for ever."
    )
    keep_landing_days: int | None = Field(
        None, ge=1, description="Days that a file stays in landing once a release was made from it; none: for ever."
    )
    keep_pages_days: int = Field(
        30, ge=1, description="Days that explanations, answers to access, stewards' sheets and exports stay."
    )
    removal_days: int = Field(30, ge=1, description="Days that destinations are told to forget people who were erased.")
    inactive_months: int = Field(
        36, ge=1, description="Months without a contact of their own after which people are erased."
    )
    most_unpacked_gb: float = Field(
        16, gt=0, description="Billions of bytes that one delivered file may unpack to; beyond that it is refused."
    )
    schedule: str = Field("30 2 * * *", description="Cron line of the nightly job, Europe/Paris.")
    volume_history: int = Field(28, ge=1, description="Deliveries of a feed that say what a usual one is.")
    volume_history_least: int = Field(7, ge=1, description="Below so many earlier deliveries volume is not judged.")
    volume_least_rows: int = Field(
        20, ge=0, description="A feed that usually brings fewer rows is never stopped by it."
    )
    volume_stop_share: _Share = Field(0.1, description="Below this share of the usual volume the night stops.")
    volume_stop_shares: Annotated[dict[str, _Share], NoDecode] = Field(
        {}, description="Feed -> the same for it, as JSON; the others keep COCANAL_VOLUME_STOP_SHARE."
    )
    volume_action: Literal["warn", "stop"] = Field("stop", description="What so small a volume does to the night.")
    volume_warn_share: _Share = Field(0.5, description="Below this share of the usual volume a warning is given.")
    volume_warn_shares: Annotated[dict[str, _Share], NoDecode] = Field(
        {}, description="Feed -> the same for it, as JSON; the others keep COCANAL_VOLUME_WARN_SHARE."
    )
    quarantine_stop_share: _Share = Field(0.2, description="Above this share of a feed's night in quarantine it stops.")
    quarantine_stop_shares: Annotated[dict[str, _Share], NoDecode] = Field(
        {}, description='... of feeds with a limit of their own, as JSON: {"web_events": 0.5}.'
    )
    quarantine_stop_rows: int = Field(50, ge=0, description="... if it is also more than so many rows.")
    stale_after_days: int = Field(
        3, ge=0, description="Days that a feed may be late against its usual rhythm before it is called stale."
    )
    stale_after_days_of: Annotated[dict[str, Annotated[int, Field(ge=0)]], NoDecode] = Field(
        {}, description="Feed -> the same for it, as JSON; the others keep COCANAL_STALE_AFTER_DAYS."
    )
    stale_action: Literal["warn", "stop"] = Field("warn", description="What a stale feed does to the night.")
    silence_most_tickets: int = Field(
        10, ge=1, description="Usual tickets that a shop may lack since its last one before it is called silent."
    )
    silence_action: Literal["warn", "stop"] = Field("warn", description="What a silent shop does to the night.")
    late_after_days: int = Field(
        2, ge=0, description="Days that the deliveries may lie behind the clock (schedule only)."
    )
    late_action: Literal["warn", "stop"] = Field(
        "warn", description="What the schedule does when they lie further behind."
    )
    wait_minutes: float = Field(
        30, ge=0, description="Minutes that a run of Dagster waits for another run in the home to end."
    )
    webhook_url: HttpUrl | None = Field(None, description="Address that is told of runs that fail; none by default.")
    ui_host: str = Field("127.0.0.1", description="Address that the Dagster UI listens on.")
    ui_port: int = Field(3000, ge=1, le=65535, description="Port that the Dagster UI listens on.")

    @field_validator("home")
    @classmethod
    def _absolute(cls, value: Path) -> Path:
        home = value.expanduser().absolute()
        if set(str(home)) & set("*?["):
            raise ValueError("the path must not hold *, ? or [, which stand for other files where files are read")
        return home

    @field_validator(
        "keep_raw_days",
        "quarantine_stop_shares",
        "stale_after_days_of",
        "volume_stop_shares",
        "volume_warn_shares",
        mode="before",
    )
    @classmethod
    def _per_feed(cls, value: object) -> object:
        if isinstance(value, str):
            try:
                value = json.loads(value or "{}")
            except ValueError as error:
                raise ValueError('must be JSON that gives feeds a number, such as {"web_events": 0.5}') from error
        if isinstance(value, dict) and (unknown := sorted(f"«{name}»" for name in value if name not in feeds())):
            raise ValueError(f"there is no feed {', '.join(unknown)}; the feeds are {', '.join(feeds())}")
        return value

    @property
    def landing(self) -> Path:
        return self.home / "landing"

    @property
    def raw(self) -> Path:
        return self.home / "raw"

    @property
    def register(self) -> Path:
        """Pages that remember which files have been delivered."""
        return self.raw / "deliveries"

    @property
    def published_mark(self) -> Path:
        """A file that names the last published release, away from the releases: a home that lost them knows it."""
        return self.raw / "last_release"

    @property
    def released_files(self) -> Path:
        """Pages that remember which delivered files a release was ever made from."""
        return self.raw / "released"

    @property
    def privacy(self) -> Path:
        """The key, the tombstones, what was carried out, and the receipts; closed to everybody else."""
        return self.home / "privacy"

    @property
    def most_unpacked_bytes(self) -> int:
        return round(self.most_unpacked_gb * 10**9)

    @property
    def warehouse(self) -> Path:
        return self.home / "warehouse.duckdb"

    @property
    def spill(self) -> Path:
        """Where DuckDB puts what does not fit into memory; empty between runs."""
        return self.home / ".spill"

    @property
    def releases(self) -> Path:
        return self.home / "releases"

    @property
    def current_release(self) -> Path:
        return self.releases / "current"

    @property
    def identity_model(self) -> Path:
        """The match model of this home, once one was trained and adopted; the shipped one counts until then."""
        return self.home / "identity" / "model.json"

    @property
    def dagster_home(self) -> Path:
        return self.home / "dagster"

    @property
    def dbt_target(self) -> Path:
        return self.home / "dbt"

    @property
    def demo_mark(self) -> Path:
        """A file that is there in the demo's home only."""
        return self.home / "demo.json"

    @property
    def lock(self) -> Path:
        return self.home / "run.lock"


def load_settings(**given: object) -> Settings:
    """Settings from the environment, with ``given`` values before it. Raises SettingsError with one line a setting."""
    values: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    try:
        return Settings(**values)
    except ValidationError as error:
        raise SettingsError("\n".join(_sentence(problem) for problem in error.errors())) from error


def _sentence(problem: ErrorDetails) -> str:
    """What is wrong with a setting: its name, the part of it if it has parts, and why."""
    name, *parts = (str(part) for part in problem["loc"])
    message = problem["msg"].removeprefix("Value error, ")
    return f"COCANAL_{name.upper()}: {''.join(f'{part}: ' for part in parts)}{message[:1].lower()}{message[1:]}"


def is_home_named() -> bool:
    """Whether the environment names a home, rather than leaving it to the default."""
    return bool(os.environ.get("COCANAL_HOME"))


def environment_of_run(settings: Settings) -> dict[str, str]:
    """The variables that the processes which a run starts must see."""
    return {
        "COCANAL_HOME": str(settings.home),
        "COCANAL_WAREHOUSE": str(settings.warehouse),
        "COCANAL_MEMORY_LIMIT": settings.memory_limit,
        "COCANAL_THREADS": str(settings.threads),
        "COCANAL_SPILL": str(settings.spill),
        "DAGSTER_HOME": str(settings.dagster_home),
        "DAGSTER_DISABLE_TELEMETRY": "1",
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
        "DO_NOT_TRACK": "1",
    }


def parse_day(text: str) -> date:
    """A day typed by a person. Raises SettingsError with a sentence."""
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(f"«{text}» is not a day; write it as YYYY-MM-DD, such as 2020-07-15") from error


def find_doubtful_settings(settings: Settings) -> list[str]:
    """A sentence per setting that can be read and can hardly be meant: unknown names, values that work against another.

    Raises nothing. Values of unknown names are not shown.
    """
    known = {f"COCANAL_{name.upper()}" for name in Settings.model_fields} | environment_of_run(settings).keys()
    doubts = [
        f"{name} is set, but there is no such setting: «cocanal settings» lists them."
        for name in sorted(os.environ)
        if name.startswith("COCANAL_") and name not in known | _OF_DEPLOYMENTS
    ]
    if settings.volume_warn_share < settings.volume_stop_share:
        doubts.append("COCANAL_VOLUME_WARN_SHARE is below COCANAL_VOLUME_STOP_SHARE: nothing is warned of first.")
    if settings.volume_history < settings.volume_history_least:
        doubts.append("COCANAL_VOLUME_HISTORY is below COCANAL_VOLUME_HISTORY_LEAST: volume is never judged.")
    number, unit = re.findall(r"^([\d.]+)\s?([KMGT])", settings.memory_limit)[0]
    asked = float(number) * 1024 ** ("KMGT".index(unit) + 1)
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if asked > there:
        doubts.append(
            f"COCANAL_MEMORY_LIMIT={settings.memory_limit} is more than this machine has ({there / 2**30:.0f} GiB): "
            "the system would end the run."
        )
    if len(settings.schedule.split()) != 5:
        doubts.append(f"COCANAL_SCHEDULE=«{settings.schedule}» is no cron line of five fields.")
    return doubts
