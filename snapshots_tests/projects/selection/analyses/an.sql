select {{ uses() }}
