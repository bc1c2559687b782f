{% snapshot people_moved %}
{{ config(unique_key='id', strategy='moved') }}
select id, name, city from {{ ref('people') }}
{% endsnapshot %}

{% snapshot people_moved_by_package %}
{{ config(unique_key='id', strategy='history.moved') }}
select id, city from {{ ref('people') }}
{% endsnapshot %}
