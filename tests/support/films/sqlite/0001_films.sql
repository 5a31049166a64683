CREATE TABLE directors (
    id integer NOT NULL PRIMARY KEY,
    first_name text NOT NULL,
    last_name text NOT NULL,
    born text
);
CREATE TABLE films (
    id integer NOT NULL PRIMARY KEY,
    title text NOT NULL,
    director_id integer,
    writer_id integer,
    year integer,
    rating numeric,
    minutes real,
    tickets integer,
    color boolean,
    genre text,
    imdb text,
    premiere text,
    added text NOT NULL,
    tags text,
    poster blob,
    CONSTRAINT films_director FOREIGN KEY (director_id) REFERENCES directors (id),
    CONSTRAINT films_writer FOREIGN KEY (writer_id) REFERENCES directors (id)
);
CREATE TABLE technical_specs (
    film_id integer NOT NULL PRIMARY KEY,
    camera text NOT NULL,
    sound text,
    CONSTRAINT specs_film FOREIGN KEY (film_id) REFERENCES films (id)
);
CREATE TABLE actors (
    id integer NOT NULL PRIMARY KEY,
    name text NOT NULL
);
CREATE TABLE roles (
    film_id integer NOT NULL,
    actor_id integer NOT NULL,
    part_name text NOT NULL,
    CONSTRAINT roles_key PRIMARY KEY (film_id, actor_id),
    CONSTRAINT roles_film FOREIGN KEY (film_id) REFERENCES films (id),
    CONSTRAINT roles_actor FOREIGN KEY (actor_id) REFERENCES actors (id)
);
CREATE TABLE reviews (
    id integer PRIMARY KEY AUTOINCREMENT,
    film_id integer NOT NULL,
    author text,
    stars integer DEFAULT 3 NOT NULL,
    body text,
    created_at text DEFAULT (strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')) NOT NULL,
    CONSTRAINT reviews_film FOREIGN KEY (film_id) REFERENCES films (id)
);
CREATE TABLE stock (
    sku text NOT NULL PRIMARY KEY,
    name text NOT NULL,
    amount integer DEFAULT 0 NOT NULL,
    price numeric,
    note text,
    owner text,
    CONSTRAINT stock_name UNIQUE (name),
    CONSTRAINT stock_amount CHECK (amount >= 0)
);
CREATE TABLE seats (
    hall text NOT NULL,
    place integer NOT NULL,
    guest text,
    CONSTRAINT seats_key PRIMARY KEY (hall, place)
);
CREATE TABLE languages (
    code text NOT NULL PRIMARY KEY
);
INSERT INTO directors (id, first_name, last_name, born) VALUES (1, 'Stanley', 'Kubrick', '1928-07-26');
INSERT INTO directors (id, first_name, last_name, born) VALUES (2, 'Agnès', 'Varda', '1928-05-30');
INSERT INTO directors (id, first_name, last_name, born) VALUES (3, 'Akira', 'Kurosawa', '1910-03-23');
INSERT INTO directors (id, first_name, last_name, born) VALUES (4, 'Jane', 'Campion', '1954-04-30');
INSERT INTO directors (id, first_name, last_name, born) VALUES (5, 'Louis', 'Lumière', '1864-10-05');
INSERT INTO directors (id, first_name, last_name, born) VALUES (6, 'Alan', 'Smithee', NULL);
INSERT INTO films (id, title, director_id, writer_id, year, rating, minutes, tickets, color, genre, imdb, premiere, added, tags, poster) VALUES (1, '2001: A Space Odyssey', 1, 1, 1968, 8.3, 149, 9007199254740993, 1, 'drama', '0f8fad5b-d9cb-469f-a165-70867728950e', '1968-04-02 20:00:00', '2026-01-02T03:04:05.123456+00:00', '{"space": true, "prizes": ["Oscar", 1]}', x'6869');
INSERT INTO films (id, title, director_id, writer_id, year, rating, minutes, tickets, color, genre, imdb, premiere, added, tags, poster) VALUES (2, 'Barry Lyndon', 1, 1, 1975, 8.1, 185.5, 120000, 1, 'drama', NULL, NULL, '2026-01-03T00:00:00+00:00', NULL, NULL);
INSERT INTO films (id, title, director_id, writer_id, year, rating, minutes, tickets, color, genre, imdb, premiere, added, tags, poster) VALUES (3, 'Cléo from 5 to 7', 2, 2, 1962, 7.8, 90, NULL, 0, 'drama', NULL, '1962-04-11 21:30:00.25', '2026-01-03T00:00:00.5+00:00', '[]', NULL);
INSERT INTO films (id, title, director_id, writer_id, year, rating, minutes, tickets, color, genre, imdb, premiere, added, tags, poster) VALUES (4, 'Rashomon', 3, NULL, 1950, 8.2, 88, 350000, 0, 'noir', '7c9e6679-7425-40de-944b-e07fc1f90ae7', NULL, '2026-01-04T12:00:00+00:00', NULL, x'6f6b');
INSERT INTO films (id, title, director_id, writer_id, year, rating, minutes, tickets, color, genre, imdb, premiere, added, tags, poster) VALUES (5, 'The Piano', 4, 4, 1993, 7.5, 121, 7000000, 1, 'drama', NULL, NULL, '2026-01-05T00:00:00+00:00', NULL, NULL);
INSERT INTO films (id, title, director_id, writer_id, year, rating, minutes, tickets, color, genre, imdb, premiere, added, tags, poster) VALUES (6, 'Workers Leaving the Lumière Factory', 5, NULL, 1895, 6.95, 0.75, NULL, 0, 'documentary', NULL, NULL, '2026-01-06T00:00:00+00:00', NULL, NULL);
INSERT INTO films (id, title, director_id, writer_id, year, rating, minutes, tickets, color, genre, imdb, premiere, added, tags, poster) VALUES (7, 'Untitled, 50% "done" (draft)', NULL, NULL, NULL, NULL, NULL, 0, NULL, NULL, NULL, NULL, '2026-01-07T00:00:00+00:00', NULL, NULL);
INSERT INTO technical_specs (film_id, camera, sound) VALUES (1, 'Super Panavision 70', 'stereo');
INSERT INTO technical_specs (film_id, camera, sound) VALUES (4, 'Mitchell', NULL);
INSERT INTO technical_specs (film_id, camera, sound) VALUES (6, 'Cinématographe', NULL);
INSERT INTO actors (id, name) VALUES (1, 'Keir Dullea');
INSERT INTO actors (id, name) VALUES (2, 'Corinne Marchand');
INSERT INTO actors (id, name) VALUES (3, 'Toshiro Mifune');
INSERT INTO actors (id, name) VALUES (4, 'Holly Hunter');
INSERT INTO actors (id, name) VALUES (5, 'Machiko Kyo');
INSERT INTO roles (film_id, actor_id, part_name) VALUES (1, 1, 'Dave');
INSERT INTO roles (film_id, actor_id, part_name) VALUES (3, 2, 'Cléo');
INSERT INTO roles (film_id, actor_id, part_name) VALUES (4, 3, 'Tajomaru');
INSERT INTO roles (film_id, actor_id, part_name) VALUES (4, 5, 'Masako');
INSERT INTO roles (film_id, actor_id, part_name) VALUES (5, 4, 'Ada');
INSERT INTO reviews (film_id, author, stars, body, created_at) VALUES (1, 'ann', 5, 'Slow (very), but "good"', '2026-02-01T10:00:00+00:00');
INSERT INTO reviews (film_id, author, stars, body, created_at) VALUES (1, 'bob', 2, NULL, '2026-02-02T10:00:00+00:00');
INSERT INTO reviews (film_id, author, stars, body, created_at) VALUES (4, 'ann', 4, 'a,b', '2026-02-03T10:00:00+00:00');
INSERT INTO stock (sku, name, amount, price, note, owner) VALUES ('CL2031', 'T-shirt', 5, 25, NULL, 'ann');
INSERT INTO stock (sku, name, amount, price, note, owner) VALUES ('CL2040', 'Hoodie', 0, 60.5, 'warm', 'bob');
INSERT INTO stock (sku, name, amount, price, note, owner) VALUES ('AC1000', 'Mug', 12, NULL, NULL, NULL);
INSERT INTO seats (hall, place, guest) VALUES ('big', 1, 'Ann');
INSERT INTO seats (hall, place, guest) VALUES ('big', 2, NULL);
INSERT INTO languages (code) VALUES ('en');
INSERT INTO languages (code) VALUES ('fr');
