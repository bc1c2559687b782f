ALTER TABLE {{ relation }}{{ on_cluster }}
    MODIFY QUERY
{{ query }}
