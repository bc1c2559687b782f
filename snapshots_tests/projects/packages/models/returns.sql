select 9 as id, 'late' as reason
