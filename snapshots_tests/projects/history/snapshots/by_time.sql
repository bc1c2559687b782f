{% snapshot people_by_time %}
{{ config(unique_key='id', strategy='timestamp', updated_at='updated_at', schema='history') }}
select * from {{ ref('people') }}
{% endsnapshot %}
