{{ config(event_time='at', order_by='at') }}
select toDateTime(at, 'UTC') as at, id from {{ ref('rows') }}
