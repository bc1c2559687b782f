-- depends_on: {{ ref('visits') }}
{%- set channels = toolbox.column_values(ref('visits'), 'channel', default=['web']) %}
select 1 as id, {{ toolbox.pivot('channel', channels, then_value='n', suffix='_n') }}
from {{ ref('visits') }}
