SELECT round, sum(points) FROM raw.raw_t GROUP BY round;
