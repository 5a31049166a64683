CREATE TABLE times (
    id bigint AUTO_INCREMENT PRIMARY KEY,
    day date, clock time(6), local datetime(6), at timestamp(6) NULL
);
SET SESSION sql_mode = '';
INSERT INTO times (id, day, clock, local, at) VALUES
    (101, '2026-00-00', '-12:00:00', '2026-01-02 03:04:05.5', '2026-01-02 03:04:05.123456'),
    (102, '2026-01-02', '30:00:00', '9999-12-31 00:00:00', NULL);
SET SESSION sql_mode = DEFAULT;
CREATE TABLE kinds (
    id bigint PRIMARY KEY,
    state enum('new', 'paid', 'archived'),
    number decimal(65, 0), `float` double, info json, name text, flag boolean, `count` bigint,
    drift varchar(10), loose enum('new', 'paid')
);
INSERT INTO kinds (id, state, drift) VALUES (1, 'archived', '1'), (2, 'new', '2'), (3, 'paid', '3'), (4, 'paid', NULL),
    (5, 'archived', NULL), (6, 'new', NULL), (7, 'paid', NULL), (8, 'archived', NULL), (9, 'new', NULL);
DELIMITER ;;
CREATE TRIGGER refuse BEFORE UPDATE ON kinds FOR EACH ROW
IF NEW.`count` = 13 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the secret'; END IF;;
DELIMITER ;
