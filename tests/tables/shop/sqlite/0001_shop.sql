CREATE TABLE customers (
    id integer PRIMARY KEY AUTOINCREMENT,
    name text NOT NULL,
    email text UNIQUE,
    vip boolean DEFAULT 0 NOT NULL,
    rating real,
    joined text,
    hidden integer
);
CREATE TABLE products (
    id integer NOT NULL PRIMARY KEY,
    name text NOT NULL,
    price numeric DEFAULT 0 NOT NULL,
    info text,
    code text,
    picture blob,
    weight real
);
CREATE TABLE orders (
    id integer PRIMARY KEY AUTOINCREMENT,
    customer_id integer NOT NULL,
    total numeric DEFAULT 0 NOT NULL,
    note text,
    placed_at text DEFAULT (strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')) NOT NULL,
    state text DEFAULT 'new' NOT NULL,
    ship_at text,
    CONSTRAINT orders_customer FOREIGN KEY (customer_id) REFERENCES customers (id)
);
CREATE TABLE order_items (
    order_id integer NOT NULL,
    line integer NOT NULL,
    product_id integer NOT NULL,
    qty integer DEFAULT 1 NOT NULL,
    CONSTRAINT order_items_key PRIMARY KEY (order_id, line),
    CONSTRAINT order_items_order FOREIGN KEY (order_id) REFERENCES orders (id),
    CONSTRAINT order_items_product FOREIGN KEY (product_id) REFERENCES products (id)
);
INSERT INTO customers (name, email, vip, rating, joined) VALUES ('Ann', 'ann@x.org', 1, 4.5, '2025-01-31');
INSERT INTO customers (name, email, vip, rating, joined) VALUES ('bob', 'bob@x.org', 0, NULL, '2025-02-28');
INSERT INTO customers (name, email, vip, rating, joined) VALUES ('Cid, "the" O''Neil', NULL, 0, -0.25, NULL);
INSERT INTO customers (name, email, vip, rating, joined) VALUES ('Ann', 'ann2@x.org', 1, 1e20, '2024-02-29');
INSERT INTO customers (name, email, vip, rating, joined) VALUES ('Zoë 50%_*', NULL, 0, 0, NULL);
INSERT INTO products (id, name, price, info, code, picture, weight) VALUES (1, 'apple', 0.5, '{"red": true, "n": [1, 2]}', '0f8fad5b-d9cb-469f-a165-70867728950e', x'6869', 0.1);
INSERT INTO products (id, name, price, info, code, picture, weight) VALUES (2, 'Brick', 12.25, NULL, NULL, NULL, 2.5);
INSERT INTO products (id, name, price, info, code, picture, weight) VALUES (3, 'crate', 1234567890.4567, '[]', NULL, x'00ff', NULL);
INSERT INTO orders (customer_id, total, note, placed_at, state, ship_at) VALUES (1, 10.5, 'first', '2026-01-02T03:04:05.123456+00:00', 'new', '2026-01-03 00:00:00');
INSERT INTO orders (customer_id, total, note, placed_at, state, ship_at) VALUES (1, 20, NULL, '2026-01-02T03:04:06+00:00', 'paid', NULL);
INSERT INTO orders (customer_id, total, note, placed_at, state, ship_at) VALUES (2, 0.1, 'a,b', '2026-01-02T03:04:05.5+00:00', 'sent', '2026-01-03 12:00:00.25');
INSERT INTO orders (customer_id, total, note, placed_at, state, ship_at) VALUES (4, 99.99, 'x%y', '2025-12-31T23:59:59.999999+00:00', 'new', NULL);
INSERT INTO order_items (order_id, line, product_id, qty) VALUES (1, 1, 1, 3);
INSERT INTO order_items (order_id, line, product_id, qty) VALUES (1, 2, 2, 1);
INSERT INTO order_items (order_id, line, product_id, qty) VALUES (2, 1, 3, 10);
INSERT INTO order_items (order_id, line, product_id, qty) VALUES (3, 1, 1, 1);
INSERT INTO order_items (order_id, line, product_id, qty) VALUES (3, 2, 1, 2);
INSERT INTO order_items (order_id, line, product_id, qty) VALUES (3, 3, 2, 5);
