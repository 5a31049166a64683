-- Rows to look at, for a tenant that has none of its own yet.
INSERT INTO users (name, email) VALUES
    ('John Doe', 'john@{{tenant}}.com'),
    ('Jane Smith', 'jane@{{tenant}}.com'),
    ('Bob Wilson', 'bob@{{tenant}}.com');
