SELECT driver, points FROM raw.raw_t ORDER BY ALL;
