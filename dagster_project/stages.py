"""The words of the walk, in its order: one word is a folder, a schema, an asset group, a gate and a chapter."""

from typing import Final

LANDING: Final = "landing"
STAGING: Final = "staging"
IDENTITY: Final = "identity"
ACCOUNT: Final = "account"
SEGMENT: Final = "segment"
AUDIENCE: Final = "audience"
ACTIVATION: Final = "activation"
RELEASE: Final = "release"

STAGES: Final = (LANDING, STAGING, IDENTITY, ACCOUNT, SEGMENT, AUDIENCE, ACTIVATION, RELEASE)

# Who answers for the tables of a stage; shown on the assets in Dagster.
OWNERS: Final = {
    LANDING: "team:data-engineering",
    STAGING: "team:data-engineering",
    IDENTITY: "team:data-engineering",
    ACCOUNT: "team:analytics",
    SEGMENT: "team:analytics",
    AUDIENCE: "team:crm",
    ACTIVATION: "team:crm",
    RELEASE: "team:data-engineering",
}
