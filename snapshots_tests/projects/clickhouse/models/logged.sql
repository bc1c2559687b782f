{{ config(engine='Log') }}
select 1 as one
