RENAME {{ kind }} {% for pair in pairs %}{{ pair.from }} TO {{ pair.to }}{% if not loop.last %}, {% endif %}{% endfor %}{{ on_cluster }}
