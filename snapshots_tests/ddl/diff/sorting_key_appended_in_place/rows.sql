INSERT INTO raw.raw_t (season, driver_id) SELECT 2024, 'a';
