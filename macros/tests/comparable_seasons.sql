{#-
  For the tests against the official tables: the seasons whose results are loaded for each round of the calendar up to the
  table's, and for none after it, and whose table is not older than the results (upstream corrects results first).

  standings: 'driver' or 'constructor'
-#}
{% macro comparable_seasons(standings) -%}
(
        select official.season
        from (
            select
                season,
                max(round) as last_round,
                argMax(batch_id, round) as batch_id
            from {{ ref('stg_' ~ standings ~ 'standings') }}
            group by season
        ) as official
        inner join (
            select
                season,
                groupUniqArrayIf(round, session = 'race') as rounds,
                max(batch_id) as batch_id
            from (
                select season, round, batch_id, 'race' as session from {{ ref('stg_results') }}
                union all
                select season, round, batch_id, 'sprint' as session from {{ ref('stg_sprint') }}
            )
            group by season
        ) as scored on scored.season = official.season
        inner join (
            select
                season,
                groupUniqArray(round) as rounds
            from {{ ref('dim_races') }}
            group by season
        ) as calendar on calendar.season = official.season
        where arrayMax(scored.rounds) = official.last_round
            and hasAll(scored.rounds, arrayFilter(round -> round <= official.last_round, calendar.rounds))
            and official.batch_id >= scored.batch_id
    )
{%- endmacro %}
