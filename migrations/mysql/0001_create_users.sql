-- The people of one tenant. An email address is stored as it was given and is unique whatever its case: MariaDB has no index on an
-- expression, and a collation would take é for e, so a generated column holds the address in lower case.
-- MySQL commits a CREATE TABLE at once, so a file of it must bear being run again: IF NOT EXISTS.
CREATE TABLE IF NOT EXISTS users (
    id         bigint       NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name       varchar(200) NOT NULL,
    email      varchar(254) NOT NULL,
    created_at datetime(6)  NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    updated_at datetime(6)  NOT NULL DEFAULT (UTC_TIMESTAMP(6)),
    email_key  varchar(254) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin GENERATED ALWAYS AS (LOWER(email)) VIRTUAL,
    UNIQUE KEY users_email_key (email_key)
) ENGINE = InnoDB CHARACTER SET utf8mb4;
