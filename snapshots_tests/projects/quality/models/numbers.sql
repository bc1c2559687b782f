select toUInt32(number + 1) as id, if(number < 2, 'low', 'high') as level, toNullable(if({{ var('bad') }} = 1 and number = 3, null, toFloat64(number))) as amount from numbers(5)
