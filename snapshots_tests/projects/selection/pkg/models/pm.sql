select {{ var('depth') }} as d, {{ var('own') }} as o, {{ pkg.help() }}
