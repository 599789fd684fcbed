"""The identifier policy as values, read from ``policy.yml``.

What belongs here: the shape of the policy and its reading. What does not: any rule about how it is applied.
"""

from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path

import yaml

POLICY_FILE = Path(__file__).with_name("policy.yml")


@dataclass(frozen=True)
class Identifier:
    """What one type of identifier may do; the words are explained at the top of ``policy.yml``."""

    name: str
    strength: int
    confidence: float
    max_persons: int | None
    max_companions: dict[str, int]
    blocked_values: tuple[str, ...]
    blocked_patterns: tuple[str, ...]


@dataclass(frozen=True)
class Policy:
    """The whole policy; shares are 0 to 1, ages in years."""

    identifiers: dict[str, Identifier]
    median_factor: float
    busy_day_uses: int
    max_busy_days: int
    max_uses: int
    name_and_address_confidence: float
    token_confidence: float
    token_min_uses: int
    token_max_uses: int
    token_margin_days: int
    recycled_after_days: int
    similarity_confidence: float
    declared_weight: float
    rival_margin: float
    bridge_weight: float
    max_block_profiles: int
    max_component_profiles: int
    default_birth_dates: tuple[date, ...]
    over_represented_names: int
    over_represented_share: float
    max_age_years: int
    min_age_years: int
    household_max_accounts: int
    household_mailboxes: tuple[str, ...]


@cache
def read_policy(path: Path = POLICY_FILE) -> Policy:
    """The policy in a file. Raises KeyError where an entry is missing."""
    node = yaml.safe_load(path.read_text(encoding="utf-8"))
    return Policy(
        identifiers={
            name: Identifier(
                name=name,
                strength=entry["strength"],
                confidence=entry["confidence"],
                max_persons=entry["max_persons"],
                max_companions=entry.get("max_companions", {}),
                blocked_values=tuple(entry.get("blocked_values", ())),
                blocked_patterns=tuple(entry.get("blocked_patterns", ())),
            )
            for name, entry in node["identifiers"].items()
        },
        median_factor=node["over_use"]["median_factor"],
        busy_day_uses=node["over_use"]["busy_day_uses"],
        max_busy_days=node["over_use"]["max_busy_days"],
        max_uses=node["over_use"]["max_uses"],
        name_and_address_confidence=node["name_and_address"]["confidence"],
        token_confidence=node["payment_token"]["confidence"],
        token_min_uses=node["payment_token"]["min_uses"],
        token_max_uses=node["payment_token"]["max_uses"],
        token_margin_days=node["payment_token"]["margin_days"],
        recycled_after_days=node["recycled_phone"]["after_days"],
        similarity_confidence=node["similarity"]["confidence"],
        declared_weight=node["similarity"]["declared_weight"],
        rival_margin=node["similarity"]["rival_margin"],
        bridge_weight=node["similarity"]["bridge_weight"],
        max_block_profiles=node["blocking"]["max_block_profiles"],
        max_component_profiles=node["blocking"]["max_component_profiles"],
        default_birth_dates=tuple(date.fromisoformat(str(day)) for day in node["birth_dates"]["defaults"]),
        over_represented_names=node["birth_dates"]["over_represented_names"],
        over_represented_share=node["birth_dates"]["over_represented_share"],
        max_age_years=node["birth_dates"]["max_age_years"],
        min_age_years=node["birth_dates"]["min_age_years"],
        household_max_accounts=node["households"]["max_accounts"],
        household_mailboxes=tuple(node["households"]["mailboxes"]),
    )
