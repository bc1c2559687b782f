INSERT INTO raw.raw_t (season, driver_id, car) SELECT 2024, 'c', toDecimal64('1.2345', 4);
