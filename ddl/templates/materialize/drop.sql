DROP {{ kind }} IF EXISTS {{ relation }}{{ on_cluster }}
