{% set target = this.incorporate(type='table') %}
{%- set temp = make_temp_relation(target) %}
{%- do drop_relation_if_exists(load_relation(temp)) %}
{%- call statement('main') -%}
create table {{ temp }} {{ engine_clause() | trim }} {{ order_cols('order by') | trim }} as select 1
{%- endcall %}
{%- do adapter.rename_relation(temp, target) %}
{{ adapter.get_columns_in_relation(target) }} {{ load_result('main').response }}
