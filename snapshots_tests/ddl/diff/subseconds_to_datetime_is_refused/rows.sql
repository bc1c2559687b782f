INSERT INTO raw.raw_t (season, driver_id, car) SELECT 2024, 'c', toDateTime64('2024-01-01 00:00:00.500', 3, 'UTC');
