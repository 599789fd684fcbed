"""The charts of the report, as SVG that takes its colours from the page.

Here belongs how figures are drawn. Not what they are, nor the page around them: that is the report. Import it late:
what draws takes a second to load.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import vl_convert
from markupsafe import Markup

Rows = Sequence[Mapping[str, Any]]

# Charts are drawn once, in these stand-in colours; the page puts its own in their place, for light and for dark.
_INK, _MUTED, _GRID = "#0a0b01", "#0a0b02", "#0a0b03"
_SERIES = tuple(f"#0c0d{number}" for number in range(10, 21))
_FIRST, _SECOND, _PALE, *_OTHERS = _SERIES
_COLOURS = {
    _INK: "var(--ink)",
    _MUTED: "var(--muted)",
    _GRID: "var(--line)",
    **{colour: f"var(--series-{number})" for number, colour in enumerate(_SERIES, start=1)},
}
_KEPT = ("kept", "held out")
_ANOTHER = "another reason"
_FATES = ("counts", "said again", "another version counts", "in quarantine", "erased")
_TRUST = ("trustworthy", "clouded by a closure")


def draw(figures: Mapping[str, Rows], symbol: str) -> dict[str, Markup]:
    """Every chart by name: ``revenue``, ``outcomes``, ``sizes``, ``fates``, ``segments_<scheme>``,
    ``waterfall_<audience>``; none of nothing.
    """
    charts = {
        "revenue": _revenue(figures["revenue"], symbol),
        "outcomes": _outcomes(figures["outcomes"]),
        "sizes": _sizes(figures["sizes"]),
        "fates": _fates(figures["fates"]),
    }
    charts = {name: chart for name, chart in charts.items() if figures[name]}
    for scheme in dict.fromkeys(row["scheme"] for row in figures["segments"]):
        charts[f"segments_{scheme}"] = _segments([row for row in figures["segments"] if row["scheme"] == scheme])
    for audience in dict.fromkeys(row["audience"] for row in figures["waterfalls"]):
        charts[f"waterfall_{audience}"] = _waterfall([r for r in figures["waterfalls"] if r["audience"] == audience])
    return {name: _svg(chart) for name, chart in charts.items()}


def _data(rows: Rows) -> Any:
    # Through JSON: amounts become plain numbers.
    return alt.Data(values=json.loads(json.dumps(list(rows), default=float)))


def _legend() -> alt.Legend:
    return alt.Legend(orient="top", direction="horizontal", symbolType="square", columns=5, columnPadding=22)


def _colour(field: str, domain: Sequence[str], colours: Sequence[str]) -> alt.Color:
    return alt.Color(
        f"{field}:N", title=None, scale=alt.Scale(domain=list(domain), range=list(colours)), legend=_legend()
    )


def _in_order(chart: Any, field: str, domain: Sequence[str]) -> Any:
    """Stack in the order of the legend."""
    return chart.transform_calculate(place=f"indexof({json.dumps(list(domain))}, datum.{field})").encode(
        order=alt.Order("place:Q")
    )


def _revenue(rows: Rows, symbol: str) -> Any:
    return (
        alt.Chart(_data(rows), width=880, height=230)
        .mark_bar()
        .encode(
            x=alt.X(
                "month:O",
                sort=None,
                title=None,
                axis=alt.Axis(labelAngle=0, labelOverlap="greedy", labelSeparation=8, ticks=False),
            ),
            y=alt.Y(
                "amount:Q", title=f"thousands of {symbol}", axis=alt.Axis(labelExpr="format(datum.value / 1000, ',')")
            ),
            color=_colour("channel", ("online", "store"), (_FIRST, _SECOND)),
        )
    )


def _outcomes(rows: Rows) -> Any:
    """A bar per audience and destination. Each frequent reason has a colour of its own, the others share one."""
    counts: Counter[str] = Counter()
    for row in rows:
        if row["outcome"] not in _KEPT:
            counts[row["outcome"]] += row["account_count"]
    frequent = [reason for reason, _ in sorted(counts.items(), key=lambda found: (-found[1], found[0]))]
    if len(frequent) > len(_OTHERS):
        frequent = frequent[: len(_OTHERS) - 1]
    told = {*_KEPT, *frequent}
    rows = [row if row["outcome"] in told else {**row, "outcome": _ANOTHER} for row in rows]
    reasons = [*frequent, *([_ANOTHER] if len(frequent) < len(counts) else [])]
    domain = (*_KEPT, *reasons)
    colours = (_FIRST, _PALE, *_OTHERS[: len(reasons)])
    chart = (
        alt.Chart(_data(rows), width=700, height=alt.Step(20))
        .mark_bar()
        .encode(
            y=alt.Y("destination:N", title=None, axis=alt.Axis(ticks=False, minExtent=150)),
            x=alt.X(
                "account_count:Q",
                title="accounts that qualified",
                axis=alt.Axis(format=",d", tickMinStep=1, tickCount=8, grid=True),
            ),
            color=_colour("outcome", domain, colours),
            row=alt.Row(
                "audience:N",
                title=None,
                spacing=14,
                header=alt.Header(labelAngle=0, labelOrient="top", labelAnchor="start", labelFontWeight="bold"),
            ),
        )
        .resolve_scale(y="independent")  # an audience shows only where it goes
    )
    return _in_order(chart, "outcome", domain)


def _waterfall(rows: Rows) -> Any:
    """Floating bars: each rule takes away where the one before left off; the ends are the whole and what is kept."""
    steps = list(dict.fromkeys(row["step"] for row in sorted(rows, key=lambda row: row["place"])))
    ends = ("qualified", *_KEPT)
    colours = {"qualified": _MUTED, "kept": _FIRST, "held out": _PALE}
    drawn = [
        {**row, "low": 0, "high": row["account_count"]}
        if row["step"] == "kept"
        else {**row, "low": 0 if row["place"] == 0 else row["low_count"], "high": row["high_count"]}
        for row in rows
    ]
    base = alt.Chart(_data(drawn)).encode(
        y=alt.Y("step:N", sort=steps, title=None, axis=alt.Axis(ticks=False, minExtent=150))
    )
    bars = base.mark_bar().encode(
        x=alt.X("low:Q", title="accounts", axis=alt.Axis(format=",d", tickMinStep=1, tickCount=4, grid=True)),
        x2="high:Q",
        color=alt.Color(
            "step:N",
            scale=alt.Scale(domain=steps, range=[colours.get(s, _SECOND) if s in ends else _SECOND for s in steps]),
            legend=None,
        ),
    )
    numbers = base.mark_text(align="left", dx=4, color=_INK, fontSize=10).encode(
        x=alt.X("high:Q"), text=alt.Text("account_count:Q", format=",d")
    )
    return (
        alt.layer(bars, numbers)
        .properties(width=215, height=alt.Step(17))
        .facet(
            column=alt.Column(
                "destination:N", title=None, header=alt.Header(labelFontWeight="bold", labelAnchor="start")
            ),
            spacing=18,
        )
        .resolve_scale(x="independent")
    )


def _sizes(rows: Rows) -> Any:
    return (
        alt.Chart(_data(rows), width=350, height=190)
        .mark_bar(color=_FIRST)
        .encode(
            x=alt.X("records:O", sort=None, title="records in the account", axis=alt.Axis(labelAngle=0, ticks=False)),
            y=alt.Y("account_count:Q", title="accounts", axis=alt.Axis(format=",d", tickMinStep=1, tickCount=5)),
        )
    )


def _fates(rows: Rows) -> Any:
    chart = (
        alt.Chart(_data(rows), width=700, height=alt.Step(16))
        .mark_bar()
        .encode(
            y=alt.Y("feed:N", sort=None, title=None, axis=alt.Axis(ticks=False, minExtent=150)),
            x=alt.X("row_share:Q", title=None, axis=alt.Axis(format="~%", tickCount=5, grid=True)),
            color=_colour("fate", _FATES, (_FIRST, _PALE, _SECOND, _OTHERS[1], _MUTED)),
        )
    )
    return _in_order(chart, "fate", _FATES)


def _segments(rows: Rows) -> Any:
    chart = (
        alt.Chart(_data(rows), width=310, height=alt.Step(22))
        .mark_bar()
        .encode(
            y=alt.Y("segment:N", sort=None, title=None, axis=alt.Axis(ticks=False, minExtent=80)),
            x=alt.X("account_share:Q", title=None, axis=alt.Axis(format="~%", tickCount=5, grid=True)),
            color=_colour("trust", _TRUST, (_FIRST, _PALE)),
        )
    )
    return _in_order(chart, "trust", _TRUST)


def _svg(chart: Any) -> Markup:
    configured = chart.configure(
        background="transparent",
        font="system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif",
        view=alt.ViewConfig(stroke="transparent"),
        axis=alt.AxisConfig(
            labelColor=_MUTED,
            titleColor=_MUTED,
            titleFontWeight="normal",
            gridColor=_GRID,
            domainColor=_GRID,
            tickColor=_GRID,
            labelFontSize=11,
            titleFontSize=11,
        ),
        axisX=alt.AxisConfig(grid=False),
        header=alt.HeaderConfig(labelColor=_INK, labelFontSize=12),
        legend=alt.LegendConfig(labelColor=_INK, labelFontSize=11),
    )
    svg = vl_convert.vegalite_to_svg(configured.to_dict(), format_locale="fr-FR")
    for stand_in, colour in _COLOURS.items():
        svg = svg.replace(stand_in, colour)
    # Drawn by this process from numbers and names that the drawing escapes itself.
    return Markup(svg)
