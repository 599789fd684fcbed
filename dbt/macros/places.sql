{#- Where people and shops are: what a postcode and a town are called, and how far two points lie apart. -#}

{#- The postcode as the list of places writes it: five digits; null where it is none of France. -#}
{% macro french_postal_code(postal_code, country) -%}
    case
        when
            coalesce({{ country }}, 'FR') in ('FR', 'GP', 'MQ', 'GF', 'RE', 'YT', 'PM', 'BL', 'MF')
            and {{ matches('replace(' ~ postal_code ~ ", ' ', '')", '\\d{5}') }}
            then replace({{ postal_code }}, ' ', '')
    end
{%- endmacro %}

{#- The department that a postcode belongs to, by its first digits: three overseas. -#}
{% macro department_of(postal_code) -%}
    substr({{ postal_code }}, 1, case when substr({{ postal_code }}, 1, 2) in ('97', '98') then 3 else 2 end)
{%- endmacro %}

{#- The name of a town as it is compared: `St Étienne CEDEX 1` and `Saint-Étienne` are one. -#}
{% macro town_key(town) -%}
    {{ return(adapter.dispatch('town_key', 'cocanal')(comparable_text(town))) }}
{%- endmacro %}

{% macro duckdb__town_key(text) -%}
    nullif(trim(regexp_replace(regexp_replace(
        regexp_replace({{ text }}, '( cedex.*| [0-9]+( ?e(me)?| ?er)?)$', ''),
        '(^| )ste ', '\1sainte ', 'g'), '(^| )st ', '\1saint ', 'g'
    )), '')
{%- endmacro %}

{% macro spark__town_key(text) -%}
    nullif(trim(regexp_replace(regexp_replace(
        regexp_replace({{ text }}, '( cedex.*| [0-9]+( ?e(me)?| ?er)?)$', ''),
        '(^| )ste ', '$1sainte '), '(^| )st ', '$1saint '
    )), '')
{%- endmacro %}

{#- Kilometres on the surface of the earth between two points in degrees (haversine; a sphere of 6371 km). -#}
{% macro distance_km(latitude, longitude, other_latitude, other_longitude) -%}
    2 * 6371 * asin(least(1, sqrt(
        power(sin(radians({{ other_latitude }} - {{ latitude }}) / 2), 2)
        + cos(radians({{ latitude }})) * cos(radians({{ other_latitude }}))
        * power(sin(radians({{ other_longitude }} - {{ longitude }}) / 2), 2)
    )))
{%- endmacro %}

{#- Of a town with several postcodes, the lowest: the town hall's, as a rule. -#}
{% macro towns(postal_places) -%}
    select
        {{ department_of('postal_code') }} as department,
        {{ town_key('town') }} as town,
        min(postal_code) as postal_code
    from {{ postal_places }}
    group by 1, 2
{%- endmacro %}
