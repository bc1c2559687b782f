{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='at', batch_size='day', begin='2024-01-01', order_by='at') }}
select at, id, {{ 'no_such_column' if var('broken', false) and '01-02' in (model.batch.event_time_start | string if model.batch else '') else '1' }} as one
from {{ ref('dated') }}
