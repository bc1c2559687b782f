CREATE OR REPLACE TABLE {{ relation }}{{ on_cluster }} CLONE AS {{ source }}
