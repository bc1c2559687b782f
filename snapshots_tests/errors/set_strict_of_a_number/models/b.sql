select {{ set_strict(5) }}
