-- a comment first
with p as (select number as id, number * 1.5 as price from numbers(5))
select * from p
