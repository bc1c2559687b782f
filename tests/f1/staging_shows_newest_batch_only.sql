-- No row of a replaced batch is visible, also where the newer batch is empty.
{% for endpoint in ['results', 'sprint', 'qualifying', 'pitstops', 'laps', 'driverstandings', 'constructorstandings'] %}
select
    '{{ endpoint }}' as endpoint,
    rows.season as season,
    rows.round as round,
    rows.batch_id as shown_batch_id,
    newest.batch_id as newest_batch_id
from (select distinct season, round, batch_id from {{ ref('stg_' ~ endpoint) }}) as rows
inner join (
    select season, round, max(batch_id) as batch_id
    from {{ source('raw', 'batches') }}
    where endpoint = '{{ endpoint }}'
    group by season, round
) as newest on newest.season = rows.season and newest.round = rows.round
where rows.batch_id < newest.batch_id
{% if not loop.last %}union all{% endif %}
{% endfor %}
