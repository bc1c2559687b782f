INSERT INTO raw.raw_t (season, driver_id) SELECT 2024, 'old';
ALTER TABLE raw.raw_t DROP COLUMN extra;
ALTER TABLE raw.raw_t ADD COLUMN extra Int32 DEFAULT 5 AFTER note;
