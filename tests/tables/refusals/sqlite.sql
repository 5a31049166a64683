CREATE TABLE large (id integer PRIMARY KEY, body text NOT NULL, n integer NOT NULL);
CREATE TABLE indexed (id bigint PRIMARY KEY, name text, info text);
