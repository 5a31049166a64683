-- Rows to look at, for a tenant that has none of its own yet.
INSERT INTO users (name, email) VALUES ('John Doe', 'john@{{tenant}}.com');
INSERT INTO users (name, email) VALUES ('Jane Smith', 'jane@{{tenant}}.com');
INSERT INTO users (name, email) VALUES ('Bob Wilson', 'bob@{{tenant}}.com');
