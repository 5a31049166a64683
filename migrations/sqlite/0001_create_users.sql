-- The people of one tenant. An email address is stored as it was given and is unique whatever its case (of ASCII letters, which
-- are those that SQLite's lower() knows). Times are texts in UTC, as SeaORM writes and reads them.
CREATE TABLE users (
    id         integer PRIMARY KEY AUTOINCREMENT,
    name       text NOT NULL CHECK (length(name) <= 200),
    email      text NOT NULL CHECK (length(email) <= 254),
    created_at timestamp_with_timezone_text NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')),
    updated_at timestamp_with_timezone_text NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now'))
);

CREATE UNIQUE INDEX users_email_key ON users (lower(email));
