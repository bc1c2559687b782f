SELECT driver_id, nr FROM raw.raw_t ORDER BY ALL;
