SELECT count() FROM raw.raw_t;
