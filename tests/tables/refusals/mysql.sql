CREATE TABLE large (id bigint PRIMARY KEY, body text NOT NULL, n integer NOT NULL);
CREATE TABLE plain (id bigint PRIMARY KEY, name varchar(20) NOT NULL);
CREATE VIEW few AS SELECT id, name FROM plain WHERE id < 100 WITH CHECK OPTION;
CREATE TABLE watched (id bigint PRIMARY KEY, name varchar(20) NOT NULL);
DELIMITER ;;
CREATE TRIGGER refuse BEFORE INSERT ON watched FOR EACH ROW
BEGIN
    IF NEW.id = 1 THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'the secret'; END IF;
    IF NEW.id = 2 THEN SIGNAL SQLSTATE '02000' SET MESSAGE_TEXT = 'the secret'; END IF;
END;;
DELIMITER ;
CREATE TABLE indexed (id bigint PRIMARY KEY, name text, info json);
