"""The verdict on a scored pair: does it propose a union, does it contradict itself, and in which words.

What belongs here: the rules that tell a person from a household, over the levels that the model's comparisons reached.
What does not: the model, and what follows when pairs are taken together (``clustering.py``).

Which disagreements are two people's is said by the model (``two_people``, ``perhaps_two``). A name that nobody bears
may be any name mistyped, so it does not prove another person; another date of one generation may be a slip.

Address, family name and landline are a household's. However much they weigh together, they join nobody unless something
of the person agrees; and another given name, or another generation's birth date, parts whatever they join.
"""

from collections.abc import Mapping, Sequence

from duckdb import DuckDBPyConnection

from dagster_project.domain.identity.model import COMPARISONS, Model
from dagster_project.domain.identity.policy import Policy
from dagster_project.domain.identity.remembered import Write, keep

_BY_NAME = {comparison.name: comparison for comparison in COMPARISONS}


def _reaches(comparison: str, *levels: str) -> str:
    """SQL: whether a pair reaches one of the levels; false where it is null."""
    numbers = ", ".join(str(_BY_NAME[comparison].gamma(level)) for level in levels)
    return f"gamma_{comparison} in ({numbers})"


_GIVEN = _reaches("given_name", "exact", "variant", "swapped", "typo", "alike")
_FAMILY = f"({_reaches('family_name', 'exact', 'variant', 'typo')} or {_reaches('given_name', 'swapped')})"
_PERSONAL = (
    f"({_GIVEN}"
    f" or {_reaches('birth_date', 'exact', 'swapped', 'close')}"
    f" or {_reaches('email', 'exact', 'typo')} or {_reaches('phone', 'mobile')})"
)
# One of the two gives no name, and both give one e-mail or mobile phone.
_NAMELESS = f"(gamma_given_name = -1 and ({_reaches('email', 'exact')} or {_reaches('phone', 'mobile')}))"
# Names and a way to reach the person agree, or the birth date: what else differs is a slip or a change, not another
# person.
_PARDONS = (
    f"({_GIVEN} and {_FAMILY} and ({_reaches('email', 'exact', 'typo')} or {_reaches('phone', 'mobile')}"
    f" or {_reaches('birth_date', 'exact', 'swapped')}))"
)
# One name at one address, and every way to reach the person is another: a person, or a father and a son.
_GENERATIONS = (
    f"({_GIVEN} and {_FAMILY} and {_reaches('address', 'exact', 'close')} and gamma_birth_date = -1"
    f" and {_reaches('email', 'different')} and {_reaches('phone', 'different')})"
)
# Everything but a given name that nobody bears.
_NEARLY_ALL = (
    f"({_FAMILY} and {_reaches('birth_date', 'exact')}"
    f" and ({_reaches('email', 'exact')} or {_reaches('phone', 'mobile')}))"
)
# One name at one address: another date of the same generation is a slip.
_ONE_NAME_AT_HOME = f"({_GIVEN} and {_FAMILY} and {_reaches('address', 'exact', 'close')})"


def _any_of(levels: Mapping[str, Sequence[str]], leaving_out: str = "") -> str:
    """SQL: whether a pair reaches any of the levels, named by comparison."""
    parts = [_reaches(name, *names) for name, names in levels.items() if names and name != leaving_out]
    return f"({' or '.join(parts) or 'false'})"


def _words() -> str:
    """SQL: the evidence of a pair in words, without values."""
    parts = []
    for comparison in COMPARISONS:
        cases = " ".join(
            f"when {comparison.gamma(level.name)} then '{level.words.replace(chr(39), chr(39) * 2)}'"
            for level in comparison.levels
        )
        parts.append(f"case gamma_{comparison.name} {cases} end")
    return f"concat_ws('; ', {', '.join(parts)})"


EVIDENCE = _words()
SHARES_IDENTIFIER = f"({_reaches('email', 'exact')} or {_reaches('phone', 'mobile', 'landline')})"
RULE = (
    f"coalesce(declared, case when {_reaches('email', 'exact')} then 'email' "
    f"when {_reaches('phone', 'mobile', 'landline')} then 'phone' else 'similarity' end)"
)
"""SQL: what ties a pair: the declared number, the identifier that both carry, or all that agrees taken together."""

NAMELESS_BITS = 4
"""How much less is enough where one record gives no name: nobody else can claim its e-mail or phone."""
UNDECIDED_BITS = 6
"""A pair this close under the threshold is undecided: stewards see it first."""


def _judged(model: Model, policy: Policy) -> str:
    """SQL: every scored pair with its verdict. ``is_telling``: somebody may ask about it."""
    dates = _any_of({"birth_date": model.perhaps_two.get("birth_date", ())})
    return f"""
        with weighed as (
            select scores.* exclude (weight, is_inside),
                scores.weight + case when links.type is null then 0 else {policy.declared_weight} end as weight,
                links.type as declared
            from identity_scores as scores left join identity_links as links using (l, r)
        ),
        doubted as (
            select *,
                case
                    when {_any_of(model.two_people)} then 2
                    when {_any_of(model.perhaps_two, leaving_out="birth_date")} and not {_NEARLY_ALL} then 1
                    when {dates} and not {_ONE_NAME_AT_HOME} and not {_PARDONS} then 1
                    when {model.tells_generations} and {_GENERATIONS} and declared is null and not {_PARDONS} then 1
                    else 0
                end as conflict,
                ({_PARDONS} or {_NEARLY_ALL}) as pardons,
                weight >= {model.accept_weight}
                    or (weight >= {model.accept_weight - NAMELESS_BITS} and {_NAMELESS}) as is_enough,
                coalesce({not model.tells_households} or {_PERSONAL} or declared is not null, false) as is_personal
            from weighed
        ),
        judged as (
            select *,
                is_enough and conflict = 0 and is_personal as joins,
                declared is not null or weight >= {model.accept_weight} or {SHARES_IDENTIFIER}
                    or (conflict = 0 and weight >= {model.accept_weight - UNDECIDED_BITS}) as is_telling,
                case
                    when is_enough and conflict = 0 and is_personal then null
                    when conflict > 0 and {_reaches("given_name", "different", "unlike", "crossed")} then 'given_name'
                    when conflict > 0 and gamma_birth_date >= 0 then 'birth_date'
                    when conflict > 0 then 'could_be_two_people'
                    when not is_personal then 'household_only'
                    else 'too_little_evidence'
                end as reason
            from doubted
        )
    """


def judge(connection: DuckDBPyConnection, model: Model, policy: Policy, write: Write = keep) -> None:
    """Write ``identity_verdicts``: one row per scored pair that somebody may ask about.

    Columns: l, r, weight (log2 odds, a declared number's weight included), declared (type or null), joins, conflict
    (0, 1, 2), pardons, reason (null where it joins), is_telling, and the levels. Most scored pairs say nothing: two
    people who share a name or a street.
    """
    write(connection, "verdicts", f"{_judged(model, policy)} select * from judged where is_telling")


def judge_components(
    connection: DuckDBPyConnection, model: Model, policy: Policy, into: str = "remembered.verdicts"
) -> None:
    """Add to ``identity_verdicts`` the other pairs within ``identity_components``: they may contradict a union."""
    connection.execute(
        f"""
        insert into {into}
        {_judged(model, policy)}
        select judged.*
        from judged
        join identity_components as lefts on lefts.node = judged.l
        join identity_components as rights on rights.node = judged.r and rights.component = lefts.component
        anti join identity_verdicts as known on known.l = judged.l and known.r = judged.r
        """
    )
