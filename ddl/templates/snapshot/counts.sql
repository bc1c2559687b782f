SELECT
    countIf(`__dbt_change` = 'insert'),
    countIf(`__dbt_change` = 'close'),
    countIf(`__dbt_change` = 'delete'),
    countIf(`__dbt_change` = 'amend'),
    countIf(`__dbt_change` IN ('insert', 'update', 'deleted')),
    count(),
    countIf(`__dbt_change` = 'remove')
FROM {{ staged }}
