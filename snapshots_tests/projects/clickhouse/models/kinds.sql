{{ config(materialized='dictionary', fields=[('kind', 'String'), ('n', 'UInt64')], primary_key='kind', layout='COMPLEX_KEY_HASHED()', lifetime='MIN 0 MAX 300', source_type='clickhouse') }}
select kind, count() as n from {{ ref('events') }} group by kind
