select {{ var('start') }}
