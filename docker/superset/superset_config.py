"""Superset over the F1 warehouse; secrets come from the environment."""

import os

SECRET_KEY = os.environ["SUPERSET_SECRET_KEY"]
# A test, or a try-out without Postgres, names a database of its own.
SQLALCHEMY_DATABASE_URI = os.environ.get("SUPERSET_METADATA_URI") or (
    f"postgresql+psycopg2://superset:{os.environ['SUPERSET_DB_PASSWORD']}@postgres/superset"
)
WTF_CSRF_ENABLED = True
TALISMAN_ENABLED = os.environ.get("SUPERSET_TLS", "") == "1"
# Gold tables change once a day, so an answer may be five minutes old.
CACHE_CONFIG = {"CACHE_TYPE": "SimpleCache", "CACHE_DEFAULT_TIMEOUT": 300}
DATA_CACHE_CONFIG = CACHE_CONFIG
ROW_LIMIT = 50_000
SQL_MAX_ROW = 100_000
