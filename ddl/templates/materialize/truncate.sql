TRUNCATE TABLE {{ relation }}{{ on_cluster }}
