{{ config(unique_key='id', on_schema_change='sync_all_columns', order_by='id', incremental_strategy='delete_insert') }}
select id
{%- if var('day') > 1 %}, version as came{% else %}, amount as left_{% endif %}
from {{ ref('events') }}
