{% macro make_audit_table() %}
create table if not exists side_hooks_audit.log (what String, name String, n UInt64) engine = MergeTree order by tuple()
{% endmacro %}

{% macro note(name, status) %}
  {%- do run_query("insert into side_hooks_audit.log select 'end', '" ~ name ~ "', " ~ ('1' if status == 'success' else '0')) -%}
{% endmacro %}

{% macro grants_for(schemas) %}
  {% for schema in schemas %}select '{{ schema }}'{% if not loop.last %} union all {% endif %}{% endfor %}
{% endmacro %}

{% macro count_rows(relation) %}
  {% set found = run_query('select count() as n from ' ~ relation) %}
  {% if execute %}insert into side_hooks_audit.log select 'counted', '{{ relation.identifier }}', {{ found.columns[0].values()[0] }}{% endif %}
{% endmacro %}

{% macro purge(table, dry_run=true) %}
  {% set counted = run_query('select count() from side_hooks_audit.' ~ table) %}
  {{ log('rows: ' ~ counted.rows[0][0] ~ ', dry run: ' ~ dry_run, info=true) }}
  {% if not dry_run %}{% do run_query('truncate table side_hooks_audit.' ~ table) %}{% endif %}
  {{ return(counted.rows[0][0]) }}
{% endmacro %}

{% macro introspect() %}
  {% set names = [] %}
  {% for node in graph.nodes.values() | selectattr('resource_type', 'equalto', 'model') | sort(attribute='unique_id') %}
    {% do names.append(node.name ~ ':' ~ node.config.materialized) %}
  {% endfor %}
  {{ print(names | join(' ')) }}
  {{ print(modules.re.sub('[aeiou]', '*', 'regular') ~ ' ' ~ modules.datetime.date(2024, 2, 29).strftime('%d.%m.%Y')) }}
  {{ print(tojson({'b': 1, 'a': [1, none, true]})) }} {{ print(fromyaml('{x: [1, 2]}').x | sum) }}
  {% set t = run_query("select number + 1 as a, toString(number) as b from numbers(2) order by a") %}
  {{ print(t.column_names ~ ' ' ~ t.columns['a'].values() ~ ' ' ~ t.rows | length) }}
  {% if 'nothing' is not in [1, 'else'] %}{{ print('in works') }}{% endif %}
{% endmacro %}

{% macro fails() %}{{ exceptions.raise_compiler_error('refused on purpose') }}{% endmacro %}
