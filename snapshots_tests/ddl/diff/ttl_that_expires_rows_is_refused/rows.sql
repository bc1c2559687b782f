INSERT INTO raw.raw_t (season, driver_id, at) SELECT 2024, 'a', '2001-01-01 00:00:00';
