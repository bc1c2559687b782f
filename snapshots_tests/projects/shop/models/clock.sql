select now() as at union all select toDateTime('2020-06-01 00:00:00')
