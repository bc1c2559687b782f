{{ config(unique_key='id', on_schema_change='append_new_columns', order_by='id', incremental_strategy='delete_insert') }}
select id, amount
{%- if var('day') > 1 %}, version as added{% endif %}
from {{ ref('events') }}
