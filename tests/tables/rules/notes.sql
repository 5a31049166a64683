CREATE TABLE notes (
    id bigint NOT NULL PRIMARY KEY,
    owner varchar(80) NOT NULL,
    code varchar(80) UNIQUE,
    hidden varchar(80) UNIQUE,
    tag varchar(80)
);
INSERT INTO notes (id, owner, code, hidden, tag) VALUES (1, 'ann', 'c1', 'h1', 't1'), (2, 'bob', 'c2', 'h2', 't2'), (3, 'a_c%', 'c3', 'h3', 't3');
