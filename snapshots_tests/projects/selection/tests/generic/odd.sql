{% test is_odd(model, column_name, among=[]) %}
select * from {{ model }} where {{ column_name }} % 2 = 0 and {{ among }}
{% endtest %}
