CREATE TABLE raw.cars (car Nullable(Int16), name String) ENGINE = MergeTree ORDER BY name;
CREATE VIEW raw.reader AS SELECT driver_id, name FROM raw.raw_t INNER JOIN raw.cars USING (car);
