{{ config(post_hook="insert into side_hooks_audit.log select 'ref', 'plain', count() from {{ ref('plain') }}") }}
select 1 as id
