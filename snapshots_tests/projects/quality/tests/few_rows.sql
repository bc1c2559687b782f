{{ config(severity='warn', store_failures=true, alias='too_few', fail_calc='sum(n)') }}
select count() as n from {{ ref('numbers') }} having n < 100
