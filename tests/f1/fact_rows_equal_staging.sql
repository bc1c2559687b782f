-- A fact has the rows of its staging model, so no join lost or multiplied any.
{% set facts = {
    'fact_race_results': 'stg_results',
    'fact_sprint_results': 'stg_sprint',
    'fact_qualifying_results': 'stg_qualifying',
    'fact_lap_times': 'stg_laps',
    'fact_pit_stops': 'stg_pitstops'
} %}
{% for fact, staging in facts.items() %}
select
    '{{ fact }}' as fact,
    (select count() from {{ ref(fact) }}) as fact_rows,
    (select count() from {{ ref(staging) }}) as staging_rows
where fact_rows != staging_rows
{% if not loop.last %}union all{% endif %}
{% endfor %}
