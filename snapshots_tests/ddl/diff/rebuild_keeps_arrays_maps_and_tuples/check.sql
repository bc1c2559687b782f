SELECT id, l, s, m, f FROM raw.raw_t ORDER BY id;
