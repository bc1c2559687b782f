SELECT driver_id, points, car, note FROM raw.raw_t FINAL ORDER BY driver_id;
