INSERT INTO raw.raw_t (season, driver_id, car) SELECT 2024, 'c', toDate32('1950-05-13');
