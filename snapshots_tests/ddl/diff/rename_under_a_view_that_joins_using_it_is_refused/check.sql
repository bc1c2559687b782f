SELECT name FROM system.columns WHERE database || '.' = 'raw.' AND table = 'raw_t' AND name LIKE 'car%';
