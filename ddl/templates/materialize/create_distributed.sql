CREATE {% if or_replace %}OR REPLACE TABLE{% else %}TABLE IF NOT EXISTS{% endif %} {{ relation }}{{ on_cluster }}
AS {{ local }}
ENGINE = Distributed({{ cluster }}, {{ local_database }}, {{ local_table }}, {{ sharding_key }})
