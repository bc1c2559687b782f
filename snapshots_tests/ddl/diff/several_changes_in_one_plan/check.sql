SELECT driver_id, nr, note FROM raw.raw_t ORDER BY ALL;
