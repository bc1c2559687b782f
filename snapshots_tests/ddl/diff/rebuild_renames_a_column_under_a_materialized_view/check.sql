INSERT INTO raw.raw_t (season, driver, car_number) SELECT 2024, 'z', 9;
SELECT driver_id, car FROM raw.target ORDER BY ALL;
SELECT driver, car_number FROM raw.raw_t ORDER BY ALL;
SELECT as_select FROM system.tables WHERE database || '.' = 'raw.' AND name = 'watcher';
SELECT * FROM raw.reader ORDER BY ALL;
SELECT driver_id, car, season FROM raw.everything ORDER BY ALL;
SELECT name, as_select FROM system.tables WHERE database || '.' = 'raw.' AND engine = 'View' ORDER BY ALL;
