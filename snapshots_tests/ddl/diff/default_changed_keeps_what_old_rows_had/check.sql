SELECT driver_id, extra FROM raw.raw_t ORDER BY ALL;
