select {{ function('f') }}
