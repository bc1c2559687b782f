select 1,
  {{ outer() }}
