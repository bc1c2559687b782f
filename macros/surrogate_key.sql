{#-
  A stable surrogate key: UInt64, the first eight bytes (big-endian) of the MD5 of the columns as text, joined by '|', null as ''.
  It depends on the values alone, so every run, engine and language computes the same one: in Python
  int.from_bytes(hashlib.md5(b'2023|1|hamilton').digest()[:8], 'big').
-#}
{% macro surrogate_key(columns) -%}
halfMD5(concatWithSeparator('|', {% for column in columns %}ifNull(toString({{ column }}), ''){% if not loop.last %}, {% endif %}{% endfor %}))
{%- endmacro %}
