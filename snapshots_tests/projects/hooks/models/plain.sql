select number as id from numbers(4)
