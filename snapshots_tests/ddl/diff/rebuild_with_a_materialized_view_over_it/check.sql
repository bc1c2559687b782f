INSERT INTO raw.raw_t (season, driver_id, car) SELECT 2024, 'z', 9;
SELECT d, car FROM raw.target ORDER BY ALL;
SELECT count() FROM raw.raw_t;
