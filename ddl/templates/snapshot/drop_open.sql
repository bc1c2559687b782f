ALTER TABLE {{ relation }}{{ on_cluster }} DROP PARTITION ID {{ open_partition }}
