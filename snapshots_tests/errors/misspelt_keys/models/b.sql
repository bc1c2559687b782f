{{ config(
    materialised='table',
    order_bye='id',
    tegs=['x'],
    my_own_key=1
) }}
select 1 as id
