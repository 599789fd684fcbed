{#- What the models of the account stage share: how an address is compared, and what an identifier can carry. -#}

{#- A postal address as one comparable text: no accents, case, punctuation. Null where street or postcode is. -#}
{% macro postal_address(address_line1, postal_code) -%}
    {{ return(adapter.dispatch('postal_address', 'cocanal')(address_line1, postal_code)) }}
{%- endmacro %}

{% macro duckdb__postal_address(address_line1, postal_code) -%}
    nullif(trim(regexp_replace(
        lower(strip_accents({{ address_line1 }} || ' ' || {{ postal_code }})), '[^a-z0-9]+', ' ', 'g'
    )), '')
{%- endmacro %}

{% macro spark__postal_address(address_line1, postal_code) -%}
    nullif(trim(regexp_replace(
        lower(regexp_replace(normalize({{ address_line1 }} || ' ' || {{ postal_code }}, 'NFD'), '\\p{M}+', '')),
        '[^a-z0-9]+', ' '
    )), '')
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
