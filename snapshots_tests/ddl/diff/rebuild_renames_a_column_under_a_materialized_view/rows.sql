CREATE TABLE raw.target (driver_id String, car Nullable(Int16)) ENGINE = MergeTree ORDER BY driver_id;
CREATE MATERIALIZED VIEW raw.watcher TO raw.target AS SELECT driver_id, car FROM raw.raw_t WHERE car > 0;
CREATE VIEW raw.reader AS SELECT r.driver_id, upper(note), t.car FROM raw.raw_t AS r LEFT JOIN raw.target AS t ON t.driver_id = r.driver_id;
CREATE VIEW raw.everything AS SELECT * FROM raw.raw_t WHERE car > 0;
CREATE VIEW raw.other AS SELECT driver_id, car FROM raw.target;
INSERT INTO raw.raw_t (season, round, batch_id, driver_id, points, car, note) SELECT 2024, 1, 'b1', * FROM values('driver_id String, points Float64, car Nullable(Int16), note Nullable(String)', ('a', 1.5, 7, 'x'), ('b', 2, NULL, NULL));
