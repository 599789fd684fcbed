"""A mistake in the metadata of an audience is a sentence that names the file and the key, before anything runs."""

import copy
from typing import Any

import pytest

from dagster_project.domain.audiences import AudienceError, read_audiences

STATED = {
    "purpose": "Good customers are invited back.",
    "kind": "marketing",
    "owner": "crm",
    "review_on": "2027-12-31",
    "destinations": ["email_tool", "meta"],
    "priority": 1,
    "kpi": "buyers",
    "kpi_target": 50,
    "minimum_size": 100,
}
VARIABLES: dict[str, Any] = {
    "audiences": ["back"],
    "schemes": {"rfm": "value", "lifecycle": "habit"},
    "destinations": [
        {
            "name": "email_tool",
            "description": "The e-mail tool.",
            "purpose": "prospecting",
            "channel": "email",
            "identifiers": {"email": 1},
            "is_third_party": False,
        },
        {
            "name": "meta",
            "description": "Custom audiences.",
            "purpose": "ad_match_social",
            "channel": "any",
            "identifiers": {"email": 3, "post": 1},
            "is_third_party": True,
        },
    ],
}


def manifest(*audiences: tuple[str, dict[str, Any] | None], parents: tuple[str, ...] = ()) -> dict[str, Any]:
    return {
        "nodes": {
            f"model.cocanal.{name}": {
                "name": name,
                "resource_type": "model",
                "fqn": ["cocanal", "audience", name],
                "original_file_path": f"models/audience/{name}.sql",
                "columns": {"account_id": {}, "product_id": {}},
                "config": {"meta": {} if stated is None else {"audience": stated}},
                "depends_on": {"nodes": list(parents)},
            }
            for name, stated in audiences
        }
    }


def mistakes(found: dict[str, Any], variables: dict[str, Any] = VARIABLES) -> str:
    with pytest.raises(AudienceError) as error:
        read_audiences(found, variables)
    return str(error.value)


def test_an_audience_that_says_everything_is_read_with_what_it_leaves_unsaid() -> None:
    audience = read_audiences(manifest(("back", STATED)), VARIABLES)["back"]
    assert (audience.cool_down_days, audience.cap, audience.stock_rule, audience.topics) == (0, None, "none", ())
    assert str(audience.review_on) == "2027-12-31"


@pytest.mark.parametrize("key", STATED)
def test_a_missing_key_is_named_with_its_file(key: str) -> None:
    stated = {name: value for name, value in STATED.items() if name != key}
    assert mistakes(manifest(("back", stated))) == f"models/audience/back.yml: {key}: is missing."


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"colour": "red"}, "colour: there is no such key"),
        ({"kind": "spam"}, "kind: input should be 'marketing' or 'service'"),
        ({"review_on": "next year"}, "review_on: must be a day, such as 2027-12-31"),
        ({"review_on": 2027}, "review_on: must be a day, such as 2027-12-31"),
        ({"destinations": ["tiktok"]}, "destinations: there is no «tiktok»"),
        ({"destinations": []}, "destinations:"),
        ({"destinations": ["email_tool", "email_tool"]}, "destinations: one is named twice"),
        ({"priority": 0}, "priority:"),
        ({"kpi": "fame"}, "kpi:"),
        ({"holdout_share": 1.5}, "holdout_share:"),
        ({"stock_rule": "in_stock"}, "stock_rule: in_stock asks for the columns product_id and location_id"),
        ({"cap_by": "account_id"}, "cap_by: says whom the cap leaves, but there is no cap"),
        ({"cap": 10, "cap_by": "age"}, "cap_by: there is no column age"),
        ({"schemes": ["stars"]}, "schemes: there is no scheme «stars»"),
        ({"stratify_by": "stars"}, "schemes: there is no scheme «stars»"),
        ({"schemes": ["rfm"]}, "is_profiling: must be true, for rfm says what somebody is worth"),
        ({"kind": "service"}, "destinations: a service message goes to the person, not to «meta»"),
        (
            {"kind": "service", "destinations": ["email_tool"], "cap": 5},
            "kind: a service message is owed to everybody concerned",
        ),
    ],
)
def test_a_mistake_is_a_sentence(change: dict[str, Any], said: str) -> None:
    told = mistakes(manifest(("back", {**STATED, **change})))
    assert told.startswith("models/audience/back.yml: ")
    assert said in told
    assert "Traceback" not in told and "pydantic" not in told


def test_all_mistakes_are_told_at_once() -> None:
    told = mistakes(manifest(("back", {**STATED, "kind": "spam", "owner": ""}))).splitlines()
    assert len(told) == 2


def test_a_model_that_reads_the_scores_says_so() -> None:
    told = mistakes(manifest(("back", STATED), parents=("model.cocanal.rfm_scores",)))
    assert "schemes: the model reads rfm_scores" in told


def test_the_list_and_the_models_agree() -> None:
    assert "names back, but there is no models/audience/back.sql" in mistakes(manifest())
    assert "back is listed as an audience but has no config.meta.audience" in mistakes(manifest(("back", None)))
    found = manifest(("back", STATED), ("new", {**STATED, "priority": 2}))
    assert "models/audience/new.yml: new has config.meta.audience; add it to vars: audiences" in mistakes(found)


def test_two_marketing_audiences_cannot_both_go_first() -> None:
    variables = {**VARIABLES, "audiences": ["back", "new"]}
    told = mistakes(manifest(("back", STATED), ("new", STATED)), variables)
    assert "models/audience/new.yml: priority: back has 1 already" in told


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"purpose": "ad_match_search"}, "prospecting is given for a channel"),
        ({"channel": "any"}, "prospecting is given for a channel"),
        ({"identifiers": {"fax": 1}}, "identifiers.fax"),
        ({"is_third_party": None}, "is_third_party"),
    ],
)
def test_a_mistake_in_a_destination_is_a_sentence_too(change: dict[str, Any], said: str) -> None:
    variables = copy.deepcopy(VARIABLES)
    variables["destinations"][0] |= change
    told = mistakes(manifest(("back", {**STATED, "destinations": ["meta"]})), variables)
    assert told.startswith("dbt_project.yml: destination email_tool: ")
    assert said in told
