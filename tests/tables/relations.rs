//! Relations that `tables pull` makes of foreign keys.

use crate::{catalogues::program, shop::secret};

const CREATE: &str = "
CREATE TABLE teams (id int NOT NULL PRIMARY KEY);
CREATE TABLE games (
    id int NOT NULL PRIMARY KEY,
    home int NOT NULL,
    away int NOT NULL,
    FOREIGN KEY (home) REFERENCES teams (id),
    FOREIGN KEY (away) REFERENCES teams (id)
);
";

#[tokio::test(flavor = "multi_thread")]
async fn foreign_keys_to_one_table_are_named_alike_everywhere() {
    for kind in ["sqlite", "postgresql", "mysql"] {
        let secret = secret(kind, "games").await;
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("pulled.yaml");
        let pull = ["tables", "pull", "--tenant", kind, "--output"].map(std::ffi::OsString::from);
        let pull = pull.into_iter().chain([output.clone().into_os_string()]);
        let pulled = program(folder.path(), (kind, &secret), CREATE, "tables: {}\n")
            .run(pull)
            .await
            .unwrap();
        assert_eq!(pulled.code, 0, "{kind}: {pulled:?}");
        let text = std::fs::read_to_string(&output).unwrap();
        let relations: Vec<&str> = text
            .lines()
            .map(str::trim)
            .filter(|line| line.contains("on:"))
            .collect();
        assert_eq!(
            relations,
            [
                "teams: { to: teams, on: { home: id } }",
                "teams_2: { to: teams, on: { away: id } }",
                "games: { to: games, on: { id: home }, many: true }",
                "games_2: { to: games, on: { id: away }, many: true }",
            ],
            "{kind}: {text}"
        );
    }
}
