CREATE TABLE {{ relation }}
ENGINE = Memory
AS
{{ query }}
