{{ config(materialized='table', order_by='id') }}
{% set day = var('day') %}
select id, name, city, updated_at from (
    select 1 as id, 'Ada' as name, 'London' as city, toDateTime('2024-01-01 00:00:00') as updated_at
    union all
    select 2, 'Grace', {{ "'New York'" if day == 1 else "'Arlington'" }}, toDateTime('2024-01-0{{ [day, 2] | min }} 00:00:00')
    {% if day < 3 %}
    union all
    select 3, 'Edsger', 'Austin', toDateTime('2024-01-01 12:00:00')
    {% endif %}
    {% if day > 1 %}
    union all
    select 4, 'Barbara', 'Boston', toDateTime('2024-01-02 06:00:00')
    {% endif %}
)
