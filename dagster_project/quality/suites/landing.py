"""The gate out of landing: did what usually comes come, and could it be read?

Volume is judged by day of delivery against the feed's own earlier deliveries, never by run: a backlog of a hundred days
in one run is judged like a hundred nights. The days judged are those since the last release and older ones of which a
file came since, or the newest one where there is no release. What a file holds is judged for every file that no release
was made from yet, whatever its day: a late one, and all of a first night's.
"""

from dagster_project.domain.contract import feeds
from dagster_project.domain.landing.reader import OPEN_END
from dagster_project.quality.statements import JUDGED_FEEDS, Statement, Suite, for_each_feed
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
        or (
            builds.previous_as_of is not null
            and files.file in (select unreleased.file from landing.unreleased_files as unreleased)
        )
"""
# The files that this run must answer for.
JUDGED_FILES = """
    select files.file
    from landing.files as files, landing.builds as builds
    where
        files.delivered_on = builds.as_of
        or files.file in (select unreleased.file from landing.unreleased_files as unreleased)
"""


def _volumes(history: int, least: int) -> str:
    """Per feed and judged day: its rows, the median of the last deliveries before it, and that of the same weekday.

    ``expected_count`` is the weekday's median where there are three of it, else that of all days.
    """
    return f"""
        with days as (
            select feed, delivered_on, sum(row_count) as row_count
            from landing.files
            group by feed, delivered_on
        ),
        closed_days as (
            select try_cast(day as date) as closed_on
            from landing.store_hours
            where delivered_on = (
                select max(delivered_on) from landing.files where feed = 'store_hours' and row_count > 0
            )
            group by closed_on
            having not bool_or(lower(trim(is_open)) = 'true')
        ),
        judged as (
            select days.*
            from days
            where
                delivered_on in ({JUDGED_DAYS})
                -- a till's file tells of the day before: where no shop opened then, it may well be empty
                and not (feed in ({_TILL_FEEDS}) and delivered_on - 1 in (select closed_on from closed_days))
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
                median(earlier_count) filter (where is_same_weekday) as usual_weekday_count,
                if(
                    count(*) filter (where is_same_weekday) >= 3, usual_weekday_count, usual_count
                ) as expected_count
            from before
            where place <= {history}
            group by feed, delivered_on, row_count
            having count(*) >= {least}
        )
    """


_TILL_FEEDS = ", ".join(f"'{feed.name}'" for feed in feeds().values() if feed.dialect == "pos")
# How a file, or a feed's day, is named in a sentence, with what it brought and what is usual.
_VOLUME = """
    feed || ' of ' || delivered_on || ', ' || row_count || ' rows where ' || round(expected_count)::bigint
    || ' are usual'
"""


# What a feed is late against its usual rhythm, in days: the rhythm is the median of the days between its deliveries.
def _late_days(settings: Settings) -> str:
    return f"""
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
        ),
        late as (
            select
                feed, last_on, (select as_of from landing.builds) - last_on as days_ago,
                (select as_of from landing.builds) - last_on - usual_gap_days as late_days
            from usual
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
    own_days = settings.stale_after_days_of
    late = _late_days(settings)
    allowed = (
        f"case feed {' '.join(f'when {feed!r} then {days}' for feed, days in own_days.items())} "
        f"else {settings.stale_after_days} end"
        if own_days
        else f"{settings.stale_after_days}"
    )
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
            *for_each_feed(
                Statement(
                    "volume_is_not_a_fraction_of_the_usual",
                    f"{volumes} select {_VOLUME}, row_count / least(usual_count, expected_count) from volumes "
                    f"where not {is_lumpy} and not {is_small_weekday} and {JUDGED_FEEDS}",
                    "Ask the supplier for the whole file and run again; if the day really was that small, "
                    "run with --accept landing --because «…».",
                    least=settings.volume_stop_share,
                    severity=settings.volume_action,
                ),
                settings.volume_stop_shares,
            ),
            Statement(
                "rows_could_be_read",
                f"""
                select feed || ' of ' || delivered_on, sum(rejected_row_count) / sum(row_count)
                from landing.files
                where file in ({JUDGED_FILES})
                group by feed, delivered_on
                having sum(rejected_row_count) > {settings.quarantine_stop_rows}
                """,
                "Look at landing.rejected_rows for the lines; «cocanal landing check FILE» tells the supplier what is "
                "wrong.",
                most=settings.quarantine_stop_share,
            ),
            *for_each_feed(
                Statement(
                    "volume_is_near_the_usual",
                    f"{volumes} select {_VOLUME}, row_count / expected_count from volumes where {JUDGED_FEEDS}",
                    "Usual is the same weekday, or the last deliveries where there are fewer than three of it. Ask "
                    "whether a file is missing or not whole; staging.no_shop_has_gone_silent tells of single shops.",
                    least=settings.volume_warn_share,
                    severity="warn",
                ),
                settings.volume_warn_shares,
            ),
            Statement(
                "every_file_could_be_read",
                f"""
                select file || ': ' || status || ', ' || message, 1
                from landing.files
                where status in ('unreadable', 'cut_off', 'changing') and file in ({JUDGED_FILES})
                """,
                "Nothing else of these files counts. landing.files.message says the same.",
                most=0,
                severity="warn",
            ),
            Statement(
                "no_delivery_was_withdrawn",
                """
                select withdrawn.file, 1
                from landing.withdrawn_files as withdrawn, landing.builds as builds
                where withdrawn.delivered_on > coalesce(builds.previous_as_of, date '0001-01-01')
                """,
                "These files were read in a night that was stopped, and left landing before a release was made from "
                "them: they do not count. If nobody took them back, deliver them again.",
                most=0,
                severity="warn",
            ),
            Statement(
                "files_end_as_usual",
                f"""
                with ends as (
                    select
                        feed, file, delivered_on in ({JUDGED_DAYS}) as is_judged,
                        contains(message, '{OPEN_END}') as ends_open
                    from landing.files
                    where row_count > 0 and file not like '%.parquet'
                )
                select file, 1
                from ends
                where is_judged and ends_open and feed in (
                    select feed
                    from ends
                    where not is_judged
                    group by feed
                    having avg(ends_open::integer) < 0.5 and count(*) >= {settings.volume_history_least}
                )
                """,
                "The last row has no line end, as in a file that was cut off; this feed's files usually have one. Ask "
                "whether the file is whole: the last field of its last row may not be.",
                most=0,
                severity="warn",
            ),
            Statement(
                "every_feed_delivered_when_usual",
                f"{late} select feed, days_ago from late where late_days > 0",
                "No file came on a day on which one usually does; the number is how many days ago the last one came.",
                most=0,
                severity="warn",
            ),
            Statement(
                "no_feed_is_stale",
                f"{late} select feed || ', last file of ' || last_on, late_days - {allowed} from late "
                f"where late_days > {allowed}",
                "The number is how many days the feed is late beyond what COCANAL_STALE_AFTER_DAYS allows. Ask its "
                "supplier; what is built meanwhile does not know what happened since.",
                most=0,
                severity=settings.stale_action,
            ),
        ),
    )
