SELECT toUnixTimestamp64Milli(assumeNotNull(car)) FROM raw.raw_t;
