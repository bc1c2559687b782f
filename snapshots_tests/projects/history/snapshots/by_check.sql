{% snapshot people_by_check %}
{{ config(unique_key='id', strategy='check', check_cols=['city']) }}
select id, name, city from {{ ref('people') }}
{% endsnapshot %}

{% snapshot people_all %}
{{ config(unique_key="id", strategy='check', check_cols='all', tags=['all']) }}
select id, name, city from {{ ref('people') }} where id < 3
{% endsnapshot %}
