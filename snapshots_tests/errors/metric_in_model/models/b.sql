select {{ metric('m') }}
