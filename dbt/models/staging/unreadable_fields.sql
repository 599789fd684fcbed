with problems as (
    select * from {{ ref('problems') }}
),

files as (
    select * from {{ source('landing', 'files') }}
),

counted as (
    select
        problems.feed,
        problems.column_name,
        files.file,
        problems.rule,
        count(*) as value_count
    from problems
    inner join files on problems.feed = files.feed and problems.file_no = files.file_no
    where not problems.is_mandatory
    group by problems.feed, problems.column_name, files.file, problems.rule
)

select * from counted
