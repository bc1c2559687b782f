SELECT d, car FROM raw.target ORDER BY ALL;
SELECT as_select FROM system.tables WHERE database || '.' = 'raw.' AND name = 'watcher';
SELECT * FROM raw.reader;
