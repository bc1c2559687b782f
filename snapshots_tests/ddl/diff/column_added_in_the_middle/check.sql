SELECT name FROM system.columns WHERE database || '.' = 'raw.' AND table = 'raw_t' ORDER BY position;
SELECT driver_id, grid FROM raw.raw_t ORDER BY ALL;
