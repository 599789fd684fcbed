"""What is done with people's data, for the register of processing (GDPR, article 30), as values.

Here belong the shape of an entry and its reading from ``processing.yml``, where the words stand. Audiences and
destinations are entries too, and say what they are in their own metadata. Not for the page: ``dictionary``.
"""

from functools import cache
from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field

_WORDS = Path(__file__).with_suffix(".yml")


class Processing(BaseModel):
    """One processing. ``tables`` are stages or tables whose personal columns it uses, ``kept`` names of settings."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    purpose: str
    basis: str
    people: str
    tables: tuple[str, ...] = Field(min_length=1)
    besides: str
    recipients: str
    kept: tuple[str, ...] = Field(min_length=1)


# The consent that each purpose of a destination rests on, or what stands in its place; in the words of the register.
BASES = {
    "prospecting": "consent to prospecting by this channel (article 6(1)(a); code des postes, article L34-5)",
    "ad_match_search": "consent to be found again by a search platform (article 6(1)(a))",
    "ad_match_social": "consent to be found again by a social network (article 6(1)(a))",
    "service": "contract (article 6(1)(b)): the message belongs to an order",
}


@cache
def read_processings() -> tuple[Processing, ...]:
    """Every processing that is no audience and no destination, in the order of the register."""
    return tuple(Processing(**each) for each in yaml.safe_load(_WORDS.read_text(encoding="utf-8")))
