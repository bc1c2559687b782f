ALTER TABLE {{ staged }}
    UPDATE {{ names.valid_from }} = {{ run_at }}
    WHERE `__dbt_change` = 'insert' AND ({{ keys | join(sep=", ") }}, {{ names.valid_from }}) IN (
{% include "snapshot/_returned.sql" %})
