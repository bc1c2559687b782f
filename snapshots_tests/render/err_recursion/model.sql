{{ again(1) }}
