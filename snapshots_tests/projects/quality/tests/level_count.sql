select level, count() as n from {{ ref('numbers') }} group by level having n > 10
