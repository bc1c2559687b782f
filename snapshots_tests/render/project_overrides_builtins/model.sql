{{ ref('orders') }} {{ builtins.ref('orders') }} {{ generate_schema_name('x', none) }}
{{ dbt.generate_schema_name('x', none) }} {{ current_timestamp() }} {{ dbt.current_timestamp() }}
