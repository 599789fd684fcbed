"""The gate out of landing: did what usually comes come, and could it be read?

Volume is judged by day of delivery against the feed's own earlier deliveries, never by run: a backlog of a hundred days
in one run is judged like a hundred nights. The days judged are those since the last release, or the newest one where
there is none.
"""

from dagster_project.quality.statements import Statement, Suite
from dagster_project.settings import Settings

# Below so many rows a day a tenth of the usual is chance as often as it is a fault: on the real shop of
# docs/online-retail.md, eight of 299 nights brought one or two refund lines where some 22 are usual.
_FEW_ROWS = 50

# The days that this run must answer for.
JUDGED_DAYS = """
    select distinct files.delivered_on
    from landing.files as files, landing.builds as builds
    where
        files.delivered_on = builds.as_of
        or (files.delivered_on > builds.previous_as_of and files.delivered_on <= builds.as_of)
"""


def _volumes(history: int, least: int) -> str:
    """Per feed and judged day: its rows, the median of the last deliveries before it, and that of the same weekday."""
    return f"""
        with days as (
            select feed, delivered_on, sum(row_count) as row_count
            from landing.files
            group by feed, delivered_on
        ),
        judged as (
            select days.*
            from days
            where delivered_on in ({JUDGED_DAYS})
        ),
        before as (
            select
                judged.feed, judged.delivered_on, judged.row_count, days.row_count as earlier_count,
                dayofweek(days.delivered_on) = dayofweek(judged.delivered_on) as is_same_weekday,
                row_number() over (
                    partition by judged.feed, judged.delivered_on order by days.delivered_on desc
                ) as place
            from judged
            join days on days.feed = judged.feed and days.delivered_on < judged.delivered_on
            where days.row_count > 0
        ),
        volumes as (
            select
                feed, delivered_on, row_count, count(*) as delivery_count,
                median(earlier_count) as usual_count, min(earlier_count) as smallest_count,
                median(earlier_count) filter (where is_same_weekday) as usual_weekday_count
            from before
            where place <= {history}
            group by feed, delivered_on, row_count
            having count(*) >= {least}
        )
    """


def suite(settings: Settings) -> Suite:
    """The landing gate with the limits of this deployment."""
    volumes = _volumes(settings.volume_history, settings.volume_history_least)
    # A feed of a few dozen rows a day varies by itself: it is only stopped by a night like none of those before it.
    few = f"usual_count < {_FEW_ROWS} and row_count >= smallest_count / 2"
    is_lumpy = f"(usual_count < {settings.volume_least_rows} or ({few}))"
    # A weekday on which the feed is usually small (shops closed on Sundays) is told, not stopped.
    is_small_weekday = f"coalesce(usual_weekday_count < {settings.volume_warn_share} * usual_count, false)"
    return Suite(
        stage="landing",
        asset="landing.files",
        statements=(
            Statement(
                "something_was_delivered",
                "select 'all feeds', coalesce(sum(row_count), 0) from landing.files",
                "Look whether the export jobs ran and wrote into the landing folder.",
                least=1,
            ),
            Statement(
                "volume_is_not_a_fraction_of_the_usual",
                f"{volumes} select feed || ' of ' || delivered_on, row_count / usual_count from volumes "
                f"where not {is_lumpy} and not {is_small_weekday}",
                "Ask the supplier for the whole file and run again; if the day really was that small, "
                "run with --accept landing --because «…».",
                least=settings.volume_stop_share,
            ),
            Statement(
                "rows_could_be_read",
                f"""
                select feed || ' of ' || delivered_on, sum(rejected_row_count) / sum(row_count)
                from landing.files
                where delivered_on in ({JUDGED_DAYS})
                group by feed, delivered_on
                having sum(rejected_row_count) > {settings.quarantine_stop_rows}
                """,
                "Look at landing.rejected_rows for the lines; «cocanal landing check FILE» tells the supplier what is "
                "wrong.",
                most=settings.quarantine_stop_share,
            ),
            Statement(
                "volume_is_near_the_usual",
                f"{volumes} select feed || ' of ' || delivered_on, row_count / usual_count from volumes",
                "Look whether a shop has gone silent or a file is missing.",
                least=settings.volume_warn_share,
                severity="warn",
            ),
            Statement(
                "every_file_could_be_read",
                f"""
                select file, 1 from landing.files
                where status in ('unreadable', 'cut_off') and delivered_on in ({JUDGED_DAYS})
                """,
                "landing.files.message says what is wrong with each file; ask for it again.",
                most=0,
                severity="warn",
            ),
            Statement(
                "every_feed_delivered_when_usual",
                f"""
                with days as (select distinct feed, delivered_on from landing.files),
                gaps as (
                    select
                        feed, delivered_on,
                        delivered_on - lag(delivered_on) over (partition by feed order by delivered_on) as gap_days,
                        row_number() over (partition by feed order by delivered_on desc) as place
                    from days
                ),
                usual as (
                    select feed, max(delivered_on) as last_on, median(gap_days) as usual_gap_days
                    from gaps
                    where place <= {settings.volume_history}
                    group by feed
                    having count(*) > {settings.volume_history_least}
                )
                select feed, (select as_of from landing.builds) - last_on
                from usual
                where (select as_of from landing.builds) - last_on > usual_gap_days
                """,
                "No file came on a day on which one usually does; the number is how many days ago the last one came.",
                most=0,
                severity="warn",
            ),
        ),
    )
