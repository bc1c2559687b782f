{% macro after(name) %}{{ return({'sql': "insert into side_hooks_audit.log select 'macro', '" ~ name ~ "', 2"}) }}{% endmacro %}
