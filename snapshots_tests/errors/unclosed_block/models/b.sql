select 1 {% if true %} x
