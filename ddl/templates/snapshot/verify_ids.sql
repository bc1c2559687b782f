SELECT
    toString({{ names.scd_id }}),
    count() OVER ()
FROM {{ relation }}
GROUP BY {{ names.scd_id }}
HAVING count() > 1
ORDER BY 1
LIMIT 5
