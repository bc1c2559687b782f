{#-
  The ids that dbt-clickhouse gives to the versions of a snapshot: 32 hex digits, as chpipe's are. Its own are UInt64, which do not go
  into the tables that chpipe makes ("no supertype for types String, UInt64"). chpipe itself does not ask this macro.
-#}
{% macro clickhouse__snapshot_hash_arguments(args) -%}
lower(hex(MD5(concat({% for arg in args %}ifNull(toString({{ arg }}), ''){% if not loop.last %}, '|', {% endif %}{% endfor %}))))
{%- endmacro %}
