EXCHANGE TABLES {{ a }} AND {{ b }}{{ on_cluster }}
