{#- The databases are named by the platform's specification, so a custom schema is taken as it stands, without a target prefix. -#}
{% macro generate_schema_name(custom_schema_name, node) -%}
    {{ custom_schema_name | trim if custom_schema_name else target.schema }}
{%- endmacro %}
