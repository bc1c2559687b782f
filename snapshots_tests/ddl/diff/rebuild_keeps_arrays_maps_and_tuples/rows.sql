INSERT INTO raw.raw_t (id, l, s, m, f) SELECT number, [number, NULL], (number, 'y'), map('k', number), if(number = 3, nan, number) FROM numbers(5);
