CREATE TABLE IF NOT EXISTS {{ relation }}{{ on_cluster }}
AS {{ local }}
ENGINE = Distributed({{ cluster }}, {{ local_database }}, {{ local_table }}, {{ sharding_key }})
