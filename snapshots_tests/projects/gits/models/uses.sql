{{ config(materialized='table') }}
select '{{ tools.version() }}' as tools, '{{ inner.version() }}' as inner, '{{ base.version() }}' as base
