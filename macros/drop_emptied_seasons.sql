{#-
  For a post_hook of an incremental model with one partition per season: drops the seasons whose current batches hold no row any
  more. Replacing partitions cannot do that, since a season without rows brings no partition to replace the old one with.
-#}
{% macro drop_emptied_seasons(endpoint) -%}
    {%- if execute -%}
        {%- set emptied -%}
            select distinct season
            from {{ this }}
            where season not in (
                select season
                from {{ source('raw', 'raw_' ~ endpoint) }}
                where (season, round, batch_id) in {{ current_batch(endpoint, ['season', 'round']) }}
            )
            order by season
        {%- endset -%}
        {%- set seasons = [] -%}
        {%- for row in run_query(emptied).rows -%}
            {%- do seasons.append(row[0]) -%}
        {%- endfor -%}
        {%- if seasons -%}
            alter table {{ this }} {% for season in seasons %}drop partition {{ season }}{% if not loop.last %}, {% endif %}{% endfor %}
        {%- endif -%}
    {%- endif -%}
{%- endmacro %}
