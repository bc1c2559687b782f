SELECT driver_id, lap FROM raw.raw_t;
