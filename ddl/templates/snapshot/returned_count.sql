SELECT count()
FROM (
{% include "snapshot/_returned.sql" %})
