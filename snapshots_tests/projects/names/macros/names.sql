{% macro generate_schema_name(custom_schema_name, node) -%}
    {%- if var('env') == 'prod' and custom_schema_name is not none -%}
        side_names_{{ custom_schema_name | trim }}
    {%- elif custom_schema_name is none -%}
        {{ target.schema }}
    {%- else -%}
        {{ target.schema }}_dev_{{ custom_schema_name | trim }}
    {%- endif -%}
{%- endmacro %}

{% macro generate_alias_name(custom_alias_name=none, node=none) -%}
    {%- if custom_alias_name -%}{{ custom_alias_name | trim }}
    {%- elif node.version -%}{{ node.name ~ "__" ~ (node.version | replace(".", "_")) }}
    {%- elif node.resource_type == 'model' and 'finance' in node.fqn -%}fin_{{ node.name }}
    {%- else -%}{{ node.name }}{%- endif -%}
{%- endmacro %}

{% macro ref() %}
{%- set args = varargs -%}
{%- if args | length > 1 -%}{%- set found = builtins.ref(args[0], args[1], **kwargs) -%}{%- else -%}{%- set found = builtins.ref(args[0], **kwargs) -%}{%- endif -%}
{%- do return(found) -%}
{% endmacro %}
