{{ config(unique_key='id', on_schema_change='fail', order_by='id', incremental_strategy='delete_insert') }}
select id
{%- if var('day') > 2 %}, version{% endif %}
from {{ ref('events') }}
