{{ log('the password is hunter2', info=true) }}{{ print('hunter2') }}select 1
