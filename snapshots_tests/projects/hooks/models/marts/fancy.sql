{{ config(
    pre_hook=["insert into side_hooks_audit.log select 'mine', '{{ var('stage') }}', 1", "select 1"],
    post_hook=after('fancy')
) }}
select id, '{{ var("stage") }}' as stage from {{ ref('plain') }}
