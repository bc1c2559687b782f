{# Where a node lands and what it is called. Projects replace these by macros of the same names. #}

{%- macro default__generate_schema_name(custom_schema_name, node) -%}
    {%- if custom_schema_name is none -%}
        {{ target.schema }}
    {%- else -%}
        {{ target.schema }}_{{ custom_schema_name | trim }}
    {%- endif -%}
{%- endmacro -%}

{%- macro generate_schema_name_for_env(custom_schema_name, node) -%}
    {%- set own_schema = target.name == 'prod' and custom_schema_name is not none -%}
    {{ (custom_schema_name | trim) if own_schema else target.schema }}
{%- endmacro -%}

{%- macro default__generate_alias_name(custom_alias_name=none, node=none) -%}
    {%- if custom_alias_name -%}
        {{ custom_alias_name | trim }}
    {%- elif node.version -%}
        {%- do return(node.name ~ '_v' ~ (node.version | replace('.', '_'))) -%}
    {%- else -%}
        {{ node.name }}
    {%- endif -%}
{%- endmacro -%}

{%- macro default__generate_database_name(custom_database_name=none, node=none) -%}
    {%- do return('') -%}
{%- endmacro -%}
