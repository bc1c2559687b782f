with source as (
    {#- Seeds stand for the raw tables here -#}
    select * from {{ ref('raw_customers') }}
),

renamed as (
    select
        id as customer_id,
        first_name,
        last_name,
        {{ full_name('first_name', 'last_name') }} as name
    from source
)

select * from renamed
