CREATE TABLE notes (
    id   integer PRIMARY KEY AUTOINCREMENT,
    text text NOT NULL CHECK (length(text) <= 200)
);
