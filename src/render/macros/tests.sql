{# The generic tests that every project has, and the queries around tests. #}

{% macro default__test_not_null(model, column_name) %}

{% set column_list = '*' if should_store_failures() else column_name %}

select {{ column_list }}
from {{ model }}
where {{ column_name }} is null

{% endmacro %}

{% test not_null(model, column_name) %}
    {% set run = adapter.dispatch('test_not_null', 'dbt') %}
    {{ run(model, column_name) }}
{% endtest %}

{% macro default__test_unique(model, column_name) %}

select
    {{ column_name }} as unique_field,
    count(*) as n_records

from {{ model }}
where {{ column_name }} is not null
group by {{ column_name }}
having count(*) > 1

{% endmacro %}

{% test unique(model, column_name) %}
    {% set run = adapter.dispatch('test_unique', 'dbt') %}
    {{ run(model, column_name) }}
{% endtest %}

{% macro default__test_accepted_values(model, column_name, values, quote=True) %}

with all_values as (

    select
        {{ column_name }} as value_field,
        count(*) as n_records

    from {{ model }}
    group by {{ column_name }}

)

select *
from all_values
where value_field not in (
    {% for value in values -%}
        {{ "'" ~ value ~ "'" if quote else value }}
        {%- if not loop.last -%},{%- endif %}
    {%- endfor %}
)

{% endmacro %}

{% test accepted_values(model, column_name, values, quote=True) %}
    {% set run = adapter.dispatch('test_accepted_values', 'dbt') %}
    {{ run(model, column_name, values, quote) }}
{% endtest %}

{% macro default__test_relationships(model, column_name, to, field) %}

with child as (
    select {{ column_name }} as from_field
    from {{ model }}
    where {{ column_name }} is not null
),

parent as (
    select {{ field }} as to_field
    from {{ to }}
)

select
    from_field

from child
left join parent
    on child.from_field = parent.to_field

where parent.to_field is null

{% endmacro %}

{% test relationships(model, column_name, to, field) %}
    {% set run = adapter.dispatch('test_relationships', 'dbt') %}
    {{ run(model, column_name, to, field) }}
{% endtest %}

{%- macro default__get_where_subquery(relation) -%}
    {%- set where = config.get('where', '') -%}
    {%- do return("(select * from " ~ relation ~ " where " ~ where ~ ") dbt_subquery" if where else relation) -%}
{%- endmacro -%}

{% macro default__get_test_sql(main_sql, fail_calc, warn_if, error_if, limit) -%}
    select
      {{ fail_calc }} as failures,
      {{ fail_calc }} {{ warn_if }} as should_warn,
      {{ fail_calc }} {{ error_if }} as should_error
    from (
      {{ main_sql }}
      {{ "limit " ~ limit if limit != none }}
    ) dbt_internal_test
{%- endmacro %}

{# Rows of the model against rows of the fixture, told apart by a column. #}
{% macro default__get_unit_test_sql(main_sql, expected_fixture_sql, expected_column_names) -%}
-- Build actual result given inputs
with dbt_internal_unit_test_actual as (
  select
    {% for name in expected_column_names %}{{ name }}{% if not loop.last -%},{% endif %}{%- endfor -%}, {{ dbt.string_literal("actual") }} as {{ adapter.quote("actual_or_expected") }}
  from (
    {{ main_sql }}
  ) _dbt_internal_unit_test_actual
),
-- Build expected result
dbt_internal_unit_test_expected as (
  select
    {% for name in expected_column_names %}{{ name }}{% if not loop.last -%}, {% endif %}{%- endfor -%}, {{ dbt.string_literal("expected") }} as {{ adapter.quote("actual_or_expected") }}
  from (
    {{ expected_fixture_sql }}
  ) _dbt_internal_unit_test_expected
)
-- Union actual and expected results
select * from dbt_internal_unit_test_actual
union all
select * from dbt_internal_unit_test_expected
{%- endmacro %}

{%- macro default__validate_fixture_rows(rows, row_number) -%}{%- endmacro -%}

{# A fixture's row with its values as SQL of the columns' types. #}
{%- macro format_row(row, column_name_to_data_types) -%}
    {%- set formatted = {} -%}
    {%- for name, value in row.items() -%}
        {%- set column = name | lower -%}
        {%- if column not in column_name_to_data_types -%}
            {%- set fixture = "expected output" if model.resource_type == 'unit_test' else "'" ~ model.name ~ "'" -%}
            {%- do exceptions.raise_compiler_error(
                "Invalid column name: '" ~ column ~ "' in unit test fixture for " ~ fixture ~ ".\nAccepted columns for "
                ~ fixture ~ " are: " ~ (column_name_to_data_types.keys() | list)) -%}
        {%- endif -%}
        {%- if value is string -%}
            {%- set text = dbt.string_literal(dbt.escape_single_quotes(value)) -%}
        {%- else -%}
            {%- set text = 'null' if value is none else value -%}
        {%- endif -%}
        {%- do formatted.update({column: safe_cast(text, column_name_to_data_types[column])}) -%}
    {%- endfor -%}
    {%- do return(formatted) -%}
{%- endmacro -%}

{% macro get_fixture_sql(rows, column_name_to_data_types) %}
-- Fixture for {{ model.name }}
{% set types = {} -%}
{%- set quoted = {} -%}
{%- if column_name_to_data_types -%}
    {%- do types.update(column_name_to_data_types) -%}
{%- else -%}
    {%- set source = defer_relation if defer_relation and not load_relation(this) else this -%}
    {%- for column in adapter.get_columns_in_relation(source) -%}
        {%- do types.update({column.name | lower: column.data_type}) -%}
        {%- do quoted.update({column.name | lower: column.quoted}) -%}
    {%- endfor -%}
    {%- if not types -%}
        {%- do exceptions.raise_compiler_error(
            "Not able to get columns for unit test '" ~ model.name ~ "' from relation " ~ this
            ~ " because the relation doesn't exist") -%}
    {%- endif -%}
{%- endif -%}
{%- set defaults = {} -%}
{%- for name, type in types.items() -%}
    {%- do defaults.update({name: safe_cast("null", type) | trim}) -%}
{%- endfor -%}
{%- do validate_fixture_rows(rows, row_number) -%}
{%- for row in rows -%}
{%- set values = defaults.copy() -%}
{%- do values.update(format_row(row, types)) -%}
select
{%- for name, value in values.items() %} {{ value }} as {{ quoted[name] }}{% if not loop.last -%}, {%- endif %}
{%- endfor %}
{%- if not loop.last %}
union all
{% endif %}
{%- endfor -%}
{%- if not rows -%}
    select
    {%- for name, value in defaults.items() %} {{ value }} as {{ quoted[name] }}{% if not loop.last -%},{%- endif %}
    {%- endfor %}
    limit 0
{%- endif -%}
{% endmacro %}

{%- macro get_expected_sql(rows, column_name_to_data_types, column_name_to_quoted) -%}
{%- for row in rows -%}
select
{%- for name, value in format_row(row, column_name_to_data_types).items() %} {{ value }} as {{ column_name_to_quoted[name] }}{% if not loop.last -%}, {%- endif %}
{%- endfor %}
{%- if not loop.last %}
union all
{% endif %}
{%- else -%}
    select * from dbt_internal_unit_test_actual
    limit 0
{%- endfor -%}
{%- endmacro -%}
