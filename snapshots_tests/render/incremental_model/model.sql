select * from {{ ref('events') }}
{% if is_incremental() %}
where at > (select max(at) from {{ this }})
{% endif %}
