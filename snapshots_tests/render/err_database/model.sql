{% set x = run_query('select nope') %}
select {{ x.rows[0][0] }}
