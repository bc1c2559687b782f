select
  {{ outer() }}
