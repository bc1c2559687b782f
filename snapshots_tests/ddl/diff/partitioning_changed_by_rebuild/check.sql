SELECT driver_id, points, car, note FROM raw.raw_t FINAL ORDER BY driver_id;
SELECT DISTINCT _partition_id FROM raw.raw_t ORDER BY 1;
