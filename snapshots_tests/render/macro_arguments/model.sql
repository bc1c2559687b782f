{{ f(1) }} {{ f(1, 2) }} {{ f(b=5, a=4) }} {{ f(1, 2, 3, 4, x=9) }}
{% call(item) each([1, 2]) %}<{{ item }}{{ suffix }}>{% endcall %}
{{ first_even([1, 3, 4, 6]) + 1 }} {{ first_even([1]) }}
{%- set ns = namespace(total=0) %}{% for i in [1, 2, 3] %}{% set ns.total = ns.total + i %}{% endfor %} {{ ns.total }}
