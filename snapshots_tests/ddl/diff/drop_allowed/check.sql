SELECT driver_id, car FROM raw.raw_t ORDER BY ALL;
