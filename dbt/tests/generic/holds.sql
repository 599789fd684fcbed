{#- The rows of a relation for which a statement about their columns is false or unknown. -#}
{% test holds(model, statement) %}
    select *
    from {{ model }}
    where ({{ statement }}) is not true
{% endtest %}
