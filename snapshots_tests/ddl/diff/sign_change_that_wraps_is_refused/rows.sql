INSERT INTO raw.raw_t (season, round, batch_id, driver_id, points, car, note) SELECT 2024, 1, 'b1', * FROM values('driver_id String, points Float64, car Nullable(Int16), note Nullable(String)', ('a', 1.5, 7, 'x'));
INSERT INTO raw.raw_t (season, driver_id, car) SELECT 2024, 'c', 4000000000;
