{{ probe.sizes() }} {{ util.greet() }} {{ adapter.dispatch('greet', 'util')() }}
