{#-
  Time travel: the rows of a snapshot as they were at one moment, as a subquery for a `from` clause.

      select driver_id, name, constructor_id
      from {{ snapshot_as_of(ref('snap_drivers'), '2024-06-01 00:00:00') }}

  relation:    a snapshot, or a dimension when valid_from and valid_to name its columns
  timestamp:   UTC text ('2024-06-01', '2024-06-01 12:30:00'), or any SQL expression of a time, such as now64(6) or a column
  A version holds from valid_from (included) to valid_to (excluded), so at any moment a key has at most one row.
  What a snapshot knows starts at its first run, or where its `history` begins: snap_drivers knows the teams of every loaded season.
-#}
{% macro snapshot_as_of(relation, timestamp, valid_from='dbt_valid_from', valid_to='dbt_valid_to') -%}
{%- set moment = timestamp | string -%}
{%- if modules.re.match('^[0-9]{4}-[0-9]{2}-[0-9]{2}', moment) -%}
    {%- set moment = "parseDateTime64BestEffort('" ~ moment ~ "', 6, 'UTC')" -%}
{%- endif -%}
(
        select *
        from {{ relation }}
        where {{ valid_from }} <= {{ moment }}
            and ({{ valid_to }} is null or {{ valid_to }} > {{ moment }})
    )
{%- endmacro %}
