{#- What the models of the account stage share: how an address is compared, and what an identifier can carry. -#}

{#- A text as people compare it: no accents, case, punctuation. Null where nothing is left. -#}
{% macro comparable_text(value) -%}
    {{ return(adapter.dispatch('comparable_text', 'cocanal')(value)) }}
{%- endmacro %}

{% macro duckdb__comparable_text(value) -%}
    nullif(trim(regexp_replace(
        lower(strip_accents({{ value }})), '[^a-z0-9]+', ' ', 'g'
    )), '')
{%- endmacro %}

{% macro spark__comparable_text(value) -%}
    nullif(trim(regexp_replace(
        lower(regexp_replace(normalize({{ value }}, 'NFD'), '\\p{M}+', '')),
        '[^a-z0-9]+', ' '
    )), '')
{%- endmacro %}

{#- A postal address as one comparable text. Null where street or postcode is. -#}
{% macro postal_address(address_line1, postal_code) -%}
    {{ comparable_text(address_line1 ~ " || ' ' || " ~ postal_code) }}
{%- endmacro %}

{#- How the identity stage names a value in `identity.demoted_identifiers` without saying it. -#}
{% macro identifier_hash(type, value) -%}
    {{ return(adapter.dispatch('identifier_hash', 'cocanal')(type, value)) }}
{%- endmacro %}

{% macro duckdb__identifier_hash(type, value) -%}
    substr(sha256({{ type }} || '|' || {{ value }}), 1, 16)
{%- endmacro %}

{% macro spark__identifier_hash(type, value) -%}
    substr(sha2({{ type }} || '|' || {{ value }}, 256), 1, 16)
{%- endmacro %}

{#-
    Which (identifier type, purpose, channel) a statement of consent can be about. Prospecting is per channel and an
    identifier only carries its own; the other purposes know no channel. A push token is in no feed: what was said about
    push is kept with every identifier of the record.
-#}
{% macro consent_scopes() -%}
    select
        identifier_type,
        purpose,
        channel
    from (
        values
        ('email', 'prospecting', 'email'),
        ('phone', 'prospecting', 'sms'),
        ('phone', 'prospecting', 'phone'),
        ('post', 'prospecting', 'post'),
        {%- for identifier_type in ['email', 'phone', 'post'] %}
        ('{{ identifier_type }}', 'prospecting', 'push'),
        {%- for purpose in ['profiling', 'open_tracking', 'ad_match_social', 'ad_match_search', 'partners'] %}
        ('{{ identifier_type }}', '{{ purpose }}', 'any'){{ ',' if not (loop.last and identifier_type == 'post') }}
        {%- endfor %}
        {%- endfor %}
    ) as scopes (identifier_type, purpose, channel)
{%- endmacro %}
