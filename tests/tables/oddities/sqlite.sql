CREATE TABLE times (id integer PRIMARY KEY AUTOINCREMENT, day text, clock text, local text, at text);
CREATE TABLE kinds (
    id integer PRIMARY KEY,
    state text,
    number numeric, float real, info text, name, flag, count, drift, loose text
);
INSERT INTO kinds (id, state, float, name, flag, count) VALUES
    (1, 'archived', 'x', x'00ff', 'true', 'abc'), (2, 'new', -0.0, 'b', 0, 7.0), (3, 'paid', 9e999, 'c', 1, 7);
INSERT INTO kinds (id, state) VALUES (4, 'paid'), (5, 'archived'), (6, 'new'), (7, 'paid'), (8, 'archived'), (9, 'new');
CREATE TRIGGER refuse BEFORE UPDATE ON kinds WHEN NEW.count = 13 BEGIN SELECT RAISE(ABORT, 'the secret'); END;
