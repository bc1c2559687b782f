SELECT driver_id, car_number FROM raw.raw_t ORDER BY ALL;
