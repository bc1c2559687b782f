{{ config(order_by='tuple()') }}
{% if execute %}
{{ toolbox.union_relations([ref('visits'), ref('returns')]) }}
{% else %}
-- {{ ref('visits') }} {{ ref('returns') }}
{% endif %}
