select '{{ "{{ not rendered }}" }}' as a, {% raw %}'{% neither %}'{% endraw %} as b {# gone #}
  , '{{- "trimmed" -}}' as c
  , {{ [1, 2, 3] | map('string') | join('+') }} as d
  , {{ "'" ~ ("a,b,c".split(",") | reverse | list | tojson) ~ "'" }} as e
  , '{{ "%05.2f" | format(3.14159) }}' as f
  , {{ namespace(x=4).x }} as g
  , {% for a, b in {'k': 1, 'l': 2}.items() %}{{ b }} as {{ a }}{{ ", " if not loop.last }}{% endfor %}
  , '{{ "%s-%d" % ("x", 7) }}' as h, '{{ "{:>4}|{!r}".format(1, "q") | replace("'", "") }}' as i
  , {{ (1, 2)[1] }} as j, {{ 7 // 2 }} as m, {{ 2 ** 5 }} as n, {{ -7 % 3 }} as o
