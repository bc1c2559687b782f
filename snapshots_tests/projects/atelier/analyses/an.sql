-- analysis {{ model.name }}
select count() from {{ ref('orders_wide') }} {% if execute %}/* {{ graph.nodes | length > 3 }} */{% endif %}
