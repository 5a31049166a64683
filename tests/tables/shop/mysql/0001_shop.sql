CREATE TABLE IF NOT EXISTS customers (
    id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name varchar(50) NOT NULL,
    email varchar(100) UNIQUE,
    vip boolean DEFAULT false NOT NULL,
    rating double,
    joined date,
    hidden integer
) ENGINE = InnoDB CHARACTER SET utf8mb4;
CREATE TABLE IF NOT EXISTS products (
    id integer NOT NULL PRIMARY KEY,
    name varchar(100) NOT NULL,
    price decimal(20,4) DEFAULT 0 NOT NULL,
    info json,
    code char(36),
    picture blob,
    weight float
) ENGINE = InnoDB CHARACTER SET utf8mb4;
CREATE TABLE IF NOT EXISTS orders (
    id bigint NOT NULL AUTO_INCREMENT PRIMARY KEY,
    customer_id bigint NOT NULL,
    total decimal(20,4) DEFAULT 0 NOT NULL,
    note varchar(100),
    placed_at datetime(6) DEFAULT (UTC_TIMESTAMP(6)) NOT NULL,
    state varchar(10) DEFAULT 'new' NOT NULL,
    ship_at datetime(6),
    CONSTRAINT orders_customer FOREIGN KEY (customer_id) REFERENCES customers (id)
) ENGINE = InnoDB CHARACTER SET utf8mb4;
CREATE TABLE IF NOT EXISTS order_items (
    order_id bigint NOT NULL,
    line smallint NOT NULL,
    product_id integer NOT NULL,
    qty integer DEFAULT 1 NOT NULL,
    CONSTRAINT order_items_key PRIMARY KEY (order_id, line),
    CONSTRAINT order_items_order FOREIGN KEY (order_id) REFERENCES orders (id),
    CONSTRAINT order_items_product FOREIGN KEY (product_id) REFERENCES products (id)
) ENGINE = InnoDB CHARACTER SET utf8mb4;
INSERT INTO customers (name, email, vip, rating, joined) VALUES ('Ann', 'ann@x.org', true, 4.5, '2025-01-31');
INSERT INTO customers (name, email, vip, rating, joined) VALUES ('bob', 'bob@x.org', false, NULL, '2025-02-28');
INSERT INTO customers (name, email, vip, rating, joined) VALUES ('Cid, "the" O''Neil', NULL, false, -0.25, NULL);
INSERT INTO customers (name, email, vip, rating, joined) VALUES ('Ann', 'ann2@x.org', true, 1e20, '2024-02-29');
INSERT INTO customers (name, email, vip, rating, joined) VALUES ('Zoë 50%_*', NULL, false, 0, NULL);
INSERT INTO products (id, name, price, info, code, picture, weight) VALUES (1, 'apple', 0.5, '{"red": true, "n": [1, 2]}', '0f8fad5b-d9cb-469f-a165-70867728950e', x'6869', 0.1);
INSERT INTO products (id, name, price, info, code, picture, weight) VALUES (2, 'Brick', 12.25, NULL, NULL, NULL, 2.5);
INSERT INTO products (id, name, price, info, code, picture, weight) VALUES (3, 'crate', 1234567890.4567, '[]', NULL, x'00ff', NULL);
INSERT INTO orders (customer_id, total, note, placed_at, state, ship_at) VALUES (1, 10.5, 'first', '2026-01-02 03:04:05.123456', 'new', '2026-01-03 00:00:00');
INSERT INTO orders (customer_id, total, note, placed_at, state, ship_at) VALUES (1, 20, NULL, '2026-01-02 03:04:06', 'paid', NULL);
INSERT INTO orders (customer_id, total, note, placed_at, state, ship_at) VALUES (2, 0.1, 'a,b', '2026-01-02 03:04:05.5', 'sent', '2026-01-03 12:00:00.25');
INSERT INTO orders (customer_id, total, note, placed_at, state, ship_at) VALUES (4, 99.99, 'x%y', '2025-12-31 23:59:59.999999', 'new', NULL);
INSERT INTO order_items (order_id, line, product_id, qty) VALUES (1, 1, 1, 3);
INSERT INTO order_items (order_id, line, product_id, qty) VALUES (1, 2, 2, 1);
INSERT INTO order_items (order_id, line, product_id, qty) VALUES (2, 1, 3, 10);
INSERT INTO order_items (order_id, line, product_id, qty) VALUES (3, 1, 1, 1);
INSERT INTO order_items (order_id, line, product_id, qty) VALUES (3, 2, 1, 2);
INSERT INTO order_items (order_id, line, product_id, qty) VALUES (3, 3, 2, 5);
