{% materialization stamped, adapter='clickhouse' %}
  {%- set target_relation = api.Relation.create(identifier=model['alias'], schema=schema, database=database, type='table') -%}
  {%- set old = load_cached_relation(this) -%}
  {{ run_hooks(pre_hooks, inside_transaction=False) }}
  {%- if old is not none -%}{%- do adapter.drop_relation(old) -%}{%- endif -%}
  {%- call statement('main') -%}
    create table {{ target_relation }} engine = MergeTree order by {{ config.get('order_by', 'tuple()') }}
    as select *, {{ config.require('stamp') }} as stamp from ( {{ sql }} )
  {%- endcall -%}
  {% set checked = run_query('select count(*) as n from ' ~ target_relation) %}
  {% do log('made ' ~ checked.rows[0].n, info=false) %}
  {{ run_hooks(post_hooks, inside_transaction=False) }}
  {% do persist_docs(target_relation, model) %}
  {{ return({'relations': [target_relation]}) }}
{% endmaterialization %}

{% materialization nothing, default %}
  {% call noop_statement('main', 'SKIPPED', 'SKIPPED', '0') %}{% endcall %}
  {{ return({'relations': []}) }}
{% endmaterialization %}
