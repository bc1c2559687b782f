{% set kinds = run_query("select distinct kind from " ~ ref('orders')) %}
select
{%- for kind in kinds.columns[0].values() %}
    sum(if(kind = '{{ kind }}', amount, 0)) as {{ kind }}_amount{{ "," if not loop.last }}
{%- endfor %}
from {{ ref('orders') }}
{%- do log('found ' ~ kinds.rows | length, info=true) -%}
