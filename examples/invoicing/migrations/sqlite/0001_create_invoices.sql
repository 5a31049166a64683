CREATE TABLE customers (
    id    integer PRIMARY KEY AUTOINCREMENT,
    name  text NOT NULL UNIQUE CHECK (length(name) <= 200)
);

CREATE TABLE invoices (
    id          integer PRIMARY KEY AUTOINCREMENT,
    customer_id integer NOT NULL REFERENCES customers (id),
    amount      integer NOT NULL CHECK (amount > 0),
    due         date_text NOT NULL,
    state       text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'paid', 'overdue'))
);
