{{ verb }}{{ on_cluster }} {{ privilege }} ON {{ relation }} {{ preposition }} {{ grantees | join(sep=", ") }}
