CREATE TABLE raw.target (d String, car Nullable(Int16)) ENGINE = MergeTree ORDER BY d;
CREATE MATERIALIZED VIEW raw.watcher TO raw.target AS SELECT driver_id AS d, car FROM raw.raw_t WHERE car > 0;
INSERT INTO raw.raw_t (season, round, batch_id, driver_id, points, car, note) SELECT 2024, 1, 'b1', * FROM values('driver_id String, points Float64, car Nullable(Int16), note Nullable(String)', ('a', 1.5, 7, 'x'), ('b', 2, NULL, NULL));
CREATE VIEW raw.reader AS SELECT driver_id, car FROM raw.raw_t WHERE car > 0;
