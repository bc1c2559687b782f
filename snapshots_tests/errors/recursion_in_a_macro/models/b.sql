select {{ r() }}
