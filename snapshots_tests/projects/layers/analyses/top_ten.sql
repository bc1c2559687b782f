select * from {{ ref('top') }} limit 10
