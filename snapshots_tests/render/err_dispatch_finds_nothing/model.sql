{{ adapter.dispatch('nothing', 'dbt')() }}
