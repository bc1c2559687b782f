SELECT driver_id, twice, label FROM raw.raw_t ORDER BY ALL;
