{% macro values() %}
  {% set found = run_query("select toDate('2024-01-01') as d, toDateTime('2024-01-01 01:02:03') as t, toDecimal64(1.5, 2) as x, [1, 2] as l, map('a', 1) as m, (1, 'x') as p, null as n, toNullable(7) as i, toFloat32(3.3) as f, true as b, nan as nn") %}
  {% for column in found.columns %}{{ print(column.name ~ ' ' ~ column.values()[0]) }}{% endfor %}
  {{ print(found.rows[0]['x'] * 2) }} {{ print(fromjson(found.rows[0]['l']) | sum) }} {{ print(found.rows[0]['n'] is none) }}
{% endmacro %}
