select 1,
 ÿ
