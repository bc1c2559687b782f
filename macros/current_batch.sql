{#-
  Which batch of each (endpoint, season, round) counts: the newest one, as a whole.

  Upstream rewrites its history, so a newer batch replaces the older one completely, also where it holds fewer rows or none.
  `raw.batches` knows the empty ones; queue ingestion fills `raw_<endpoint>` before it, so both are asked. A batch id is a UTC
  timestamp (YYYYMMDDTHHMMSS), hence the greatest text is the newest.

  endpoint: name as in the lake, e.g. 'results'
  keys:     what a batch covers: [] for static endpoints, ['season'], or ['season', 'round']
-#}
{% macro current_batch(endpoint, keys=[]) -%}
(
        select {% for key in keys %}{{ key }}, {% endfor %}max(batch_id) as batch_id
        from (
            select {% for key in keys %}{{ key }}, {% endfor %}batch_id
            from {{ source('raw', 'raw_' ~ endpoint) }}
            union all
            select {% for key in keys %}{{ key }}, {% endfor %}batch_id
            from {{ source('raw', 'batches') }}
            where endpoint = '{{ endpoint }}'
        )
        {% if keys -%} group by {{ keys | join(', ') }}
        {%- else -%} having count() > 0 {%- endif %}
    )
{%- endmacro %}


{#-
  The rows of the current batches, for a `from` clause. FINAL, because an insert that was repeated after a crash leaves the same
  row twice until ClickHouse merges the parts.
-#}
{% macro current_rows(endpoint, keys=[]) -%}
{{ source('raw', 'raw_' ~ endpoint) }} final
where ({% for key in keys %}{{ key }}, {% endfor %}batch_id) in {{ current_batch(endpoint, keys) }}
{%- endmacro %}
