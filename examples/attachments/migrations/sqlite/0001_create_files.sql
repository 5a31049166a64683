CREATE TABLE files (
    name    text NOT NULL PRIMARY KEY CHECK (length(name) <= 100),
    content blob NOT NULL
);
