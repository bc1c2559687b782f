UPDATE {{ relation }}
SET {{ names.valid_to }} = transform(
        {{ names.scd_id }},
        (SELECT groupArray({{ names.scd_id }}) FROM (SELECT {{ names.scd_id }} FROM {{ staged }} WHERE {{ change_closes }} ORDER BY {{ names.scd_id }})),
        (SELECT groupArray(assumeNotNull({{ names.valid_to }})) FROM (SELECT {{ names.valid_to }} FROM {{ staged }} WHERE {{ change_closes }} ORDER BY {{ names.scd_id }})),
        {{ any_time }}
    )
WHERE {{ is_open }} AND {{ names.scd_id }} IN (SELECT {{ names.scd_id }} FROM {{ staged }} WHERE {{ change_closes }})
