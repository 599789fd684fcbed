"""What audiences and destinations say about themselves, read from dbt's manifest and checked before anything runs.

Here belong the keys of ``config.meta.audience`` and of ``vars: destinations``, and what may stand in them. Not who is
in an audience (its model), who may be contacted (``audience.eligibility``), nor the columns that analysts read
(``audience.audiences``).
"""

from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

MESSAGE_CHANNELS = ("email", "sms", "phone", "post", "push")
# What a scheme of segments says of somebody: his worth, what he will do and what he likes are profiling.
_PROFILING = ("value", "intent", "affinity")
_PROJECT = "dbt_project.yml"

_Sentence = Annotated[str, Field(min_length=10)]
_Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class AudienceError(Exception):
    """The metadata of audiences or destinations are wrong; the message is a sentence per mistake."""


class _Stated(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Audience(_Stated):
    """One audience, as its YAML states it; docs/audiences.md says what each key means."""

    purpose: _Sentence
    kind: Literal["marketing", "service"]
    owner: str = Field(min_length=1)
    review_on: date
    destinations: tuple[str, ...] = Field(min_length=1)
    priority: int = Field(ge=1)
    kpi: Literal["revenue", "buyers", "visits"]
    kpi_target: float = Field(gt=0)
    minimum_size: int = Field(ge=0)
    cool_down_days: int = Field(0, ge=0)
    cap: int | None = Field(None, ge=1)
    cap_by: str | None = None
    holdout_share: float | None = Field(None, ge=0, lt=1)
    stratify_by: str | None = None
    stock_rule: Literal["none", "in_stock"] = "none"
    topics: tuple[str, ...] = ()
    schemes: tuple[str, ...] = ()
    is_profiling: bool = False

    @field_validator("review_on", mode="before")
    @classmethod
    def _is_a_day(cls, value: object) -> object:
        if not isinstance(value, date) and not (isinstance(value, str) and len(value) == 10):
            raise ValueError("must be a day, such as 2027-12-31")
        return value


class Destination(_Stated):
    """One destination of ``vars: destinations``: the consent it asks for, and the identifiers it takes."""

    name: _Name
    description: _Sentence
    purpose: Literal["prospecting", "ad_match_social", "ad_match_search"]
    channel: Literal["email", "sms", "phone", "post", "push", "any"]
    identifiers: dict[Literal["email", "phone", "post"], Annotated[int, Field(ge=1)]] = Field(min_length=1)
    is_third_party: bool
    is_partner: bool = False

    @property
    def is_for_messages(self) -> bool:
        """Whether a person receives something there, rather than being found again among others."""
        return self.channel in MESSAGE_CHANNELS


def read_audiences(manifest: Mapping[str, Any], variables: Mapping[str, Any]) -> dict[str, Audience]:
    """Every audience by name, in the order of ``vars: audiences``.

    ``manifest`` is dbt's, ``variables`` the vars of dbt_project.yml. Raises AudienceError with a sentence per mistake,
    which names the file and the key.
    """
    mistakes: list[str] = []
    destinations = _read_destinations(variables, mistakes)
    models = {
        node["name"]: node
        for node in manifest["nodes"].values()
        if node["resource_type"] == "model" and node["fqn"][1] == "audience"
    }
    listed = list(variables.get("audiences", ()))
    found: dict[str, Audience] = {}
    for name in listed:
        if name not in models:
            mistakes.append(f"{_PROJECT}: vars: audiences names {name}, but there is no models/audience/{name}.sql.")
            continue
        stated = _meta(models[name]).get("audience")
        if not isinstance(stated, Mapping):
            mistakes.append(f"{_file(models[name])}: {name} is listed as an audience but has no config.meta.audience.")
            continue
        try:
            audience = Audience.model_validate(dict(stated))
        except ValidationError as error:
            mistakes.extend(f"{_file(models[name])}: {sentence}" for sentence in _sentences(error))
            continue
        found[name] = audience
        mistakes.extend(
            f"{_file(models[name])}: {sentence}"
            for sentence in _contradictions(audience, models[name], destinations, variables)
        )
    for name, node in sorted(models.items()):
        if "audience" in _meta(node) and name not in listed:
            mistakes.append(f"{_file(node)}: {name} has config.meta.audience; add it to vars: audiences in {_PROJECT}.")
    mistakes.extend(_shared_priorities(found))
    if mistakes:
        raise AudienceError("\n".join(mistakes))
    return found


def _read_destinations(variables: Mapping[str, Any], mistakes: list[str]) -> dict[str, Destination]:
    found: dict[str, Destination] = {}
    for position, stated in enumerate(variables.get("destinations", ()), start=1):
        name = stated.get("name", f"number {position}") if isinstance(stated, Mapping) else f"number {position}"
        try:
            destination = Destination.model_validate(stated)
        except ValidationError as error:
            mistakes.extend(f"{_PROJECT}: destination {name}: {sentence}" for sentence in _sentences(error))
            continue
        if destination.name in found:
            mistakes.append(f"{_PROJECT}: there are two destinations {destination.name}.")
        if destination.is_for_messages != (destination.purpose == "prospecting"):
            mistakes.append(
                f"{_PROJECT}: destination {name}: prospecting is given for a channel ({', '.join(MESSAGE_CHANNELS)}), "
                "ad matching for any."
            )
        found[destination.name] = destination
    return found


def _contradictions(
    audience: Audience,
    node: Mapping[str, Any],
    destinations: Mapping[str, Destination],
    variables: Mapping[str, Any],
) -> Iterator[str]:
    columns = set(node["columns"])
    if "account_id" not in columns:
        yield "columns: an audience has one row per account, and so a column account_id."
    for name in audience.destinations:
        if name not in destinations:
            yield f"destinations: there is no «{name}» in vars: destinations; there are {', '.join(destinations)}."
        elif audience.kind == "service" and (
            destinations[name].is_third_party or not destinations[name].is_for_messages
        ):
            yield f"destinations: a service message goes to the person, not to «{name}»."
    if len(set(audience.destinations)) < len(audience.destinations):
        yield "destinations: one is named twice."
    if audience.stock_rule == "in_stock" and not {"product_id", "location_id"} <= columns:
        yield "stock_rule: in_stock asks for the columns product_id and location_id."
    if audience.cap_by is not None and audience.cap_by not in columns:
        yield f"cap_by: there is no column {audience.cap_by}."
    if audience.cap_by is not None and audience.cap is None:
        yield "cap_by: says whom the cap leaves, but there is no cap."
    schemes = variables.get("schemes", {})
    for scheme in [*audience.schemes, *([audience.stratify_by] if audience.stratify_by else [])]:
        if scheme not in schemes:
            yield f"schemes: there is no scheme «{scheme}»; there are {', '.join(schemes)}."
    built_on = [name for name in audience.schemes if schemes.get(name) in _PROFILING]
    if built_on and not audience.is_profiling:
        yield f"is_profiling: must be true, for {built_on[0]} says what somebody is worth, wants or likes."
    if "rfm" not in audience.schemes and any(parent.endswith(".rfm_scores") for parent in node["depends_on"]["nodes"]):
        yield "schemes: the model reads rfm_scores, so rfm belongs here."
    if audience.kind == "service" and (audience.is_profiling or audience.cap or audience.holdout_share):
        yield "kind: a service message is owed to everybody concerned: no profiling, no cap, no holdout."


def _shared_priorities(audiences: Mapping[str, Audience]) -> Iterator[str]:
    first: dict[int, str] = {}
    for name, audience in audiences.items():
        if audience.kind == "marketing" and first.setdefault(audience.priority, name) != name:
            yield (
                f"models/audience/{name}.yml: priority: {first[audience.priority]} has {audience.priority} already; "
                "one of two audiences goes first."
            )


def _sentences(error: ValidationError) -> Iterator[str]:
    for problem in error.errors():
        key = ".".join(str(part) for part in problem["loc"] if part != "[key]")
        match problem["type"]:
            case "missing":
                yield f"{key}: is missing."
            case "extra_forbidden":
                yield f"{key}: there is no such key."
            case _:
                message = problem["msg"].removeprefix("Value error, ")
                yield f"{key}: {message[:1].lower()}{message[1:]}."


def _meta(node: Mapping[str, Any]) -> Mapping[str, Any]:
    return (node.get("config") or {}).get("meta") or {}


def _file(node: Mapping[str, Any]) -> str:
    return PurePosixPath(node["original_file_path"]).with_suffix(".yml").as_posix()
