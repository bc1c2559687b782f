select number as id, concat('item ', toString(number)) as label from numbers({{ var('cutoff') }})
