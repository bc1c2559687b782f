SELECT name FROM system.columns WHERE database || '.' = 'raw.' AND table = 'ext_t' ORDER BY position;
