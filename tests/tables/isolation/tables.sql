CREATE TABLE notes (
    id bigint NOT NULL PRIMARY KEY,
    owner varchar(80) NOT NULL,
    customer integer NOT NULL,
    body varchar(200) NOT NULL
);
CREATE TABLE parts (
    note_id bigint NOT NULL,
    part integer NOT NULL,
    customer integer NOT NULL,
    body varchar(200) NOT NULL,
    PRIMARY KEY (note_id, part)
);
