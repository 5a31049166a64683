CREATE TABLE large (id integer PRIMARY KEY, body text NOT NULL, n integer NOT NULL);
