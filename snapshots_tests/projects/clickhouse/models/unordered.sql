select kind, user_id from {{ ref('events') }} limit 3 settings max_threads = 1
