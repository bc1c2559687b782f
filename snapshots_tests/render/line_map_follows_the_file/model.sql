{% set a = 1 %}

select
    {{ two_lines() }},
    b
    {%- if true %}
    , c
    {%- endif %}
from t
