{{ config(materialized='view', meta={'k': 'v'}) }}
{%- set missing = adapter.get_relation(database=none, schema=schema, identifier='no_such_table') -%}
{%- do store_result('kept', response='fine') -%}
{%- do exceptions.warn('context.sql warns') %}
select
    '{{ flags.WHICH }} {{ flags.FULL_REFRESH }} {{ flags.STORE_FAILURES }} {{ flags.EMPTY }}' as flags,
    '{{ invocation_id | length }} {{ run_started_at.tzinfo is not none }} {{ dbt_version.split(".")[0] }} {{ thread_id is string }}' as invocation,
    '{{ invocation_args_dict.which }} {{ dbt_metadata_envs }}' as arguments,
    '{{ zip_strict([1, 2], ["a", "b"]) | list | length }} {{ context["target"].name }} {{ builtins.ref("top").identifier }}' as small,
    '{{ load_result("kept").response }} {{ "1" | as_number }} {{ "true" | as_bool }} {{ "[1]" | as_native }} {{ 1 | as_text }}' as results,
    '{{ config.get("meta").k }} {{ config.meta_get("k") }} {{ missing is none }} {{ model.name }} {{ target.type }} {{ this.identifier }}' as node,
    '{{ selected_resources | length > 0 }} {{ should_full_refresh() }} {{ is_incremental() }}' as run
