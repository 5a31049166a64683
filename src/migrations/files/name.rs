//! The names of files: Tenantry's own, and those of the tools that people come from.

use super::FilesError;

/// A file that is applied, by its name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct FileName<'a> {
    pub(super) version: i64,
    /// The name without what it ends with: `0001_create_users`, `V2__add_phone`.
    pub(super) name: &'a str,
    /// What comes after the number.
    pub(super) title: &'a str,
}

impl<'a> FileName<'a> {
    /// Reads a file's name. Returns `None` for a file to skip: one that is not SQL, or that undoes
    /// another file.
    pub(super) fn read(folder: &str, file: &'a str) -> Result<Option<Self>, FilesError> {
        let wrong = || FilesError::Name {
            file: format!("{folder}/{file}"),
        };
        let unsupported = |reason: &str| {
            Err(FilesError::Unsupported {
                file: format!("{folder}/{file}"),
                reason: reason.to_owned(),
            })
        };
        let Some(name) = file.strip_suffix(".sql") else {
            return match file.to_ascii_lowercase().ends_with(".sql") {
                true => unsupported("ends in capital letters; name it `.sql`"),
                false => Ok(None),
            };
        };
        // golang-migrate, and sqlx with reversible migrations.
        if name.ends_with(".down") {
            return Ok(None);
        }
        if let Some(name) = name.strip_suffix(".up") {
            let (number, title) = name.split_once('_').ok_or_else(wrong)?;
            return Self::of(number, title, name).map(Some).ok_or_else(wrong);
        }
        if let Some((prefix, title)) = name.split_once("__")
            && let Some(kind) = prefix.chars().next().filter(char::is_ascii_uppercase)
        {
            let number = &prefix[1..];
            return match kind {
                'V' if number.contains(['.', '_']) => {
                    unsupported("has a version of several parts; give it one number, in the same order")
                }
                'V' => Self::of(number, title, name).map(Some).ok_or_else(wrong),
                'U' => Ok(None),
                'R' => {
                    unsupported("is one of Flyway's that run again whenever they change; Tenantry applies a file once")
                }
                'B' => unsupported("is a baseline of Flyway's; name it as the first version, and adopt it"),
                _ => Err(wrong()),
            };
        }
        let (number, title) = name.split_once('_').ok_or_else(wrong)?;
        if title.chars().any(|c| c.is_ascii_uppercase() || matches!(c, '-' | '.')) {
            return Err(wrong());
        }
        Self::of(number, title, name).map(Some).ok_or_else(wrong)
    }

    fn of(number: &str, title: &'a str, name: &'a str) -> Option<Self> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
        let is_plain = !title.is_empty() && title.chars().all(plain) && number.bytes().all(|b| b.is_ascii_digit());
        let version = number.parse().ok().filter(|_| is_plain)?;
        Some(Self { version, name, title })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &str) -> Result<Option<(i64, &str, &str)>, String> {
        let read = FileName::read("sqlite", file).map_err(|error| error.to_string())?;
        Ok(read.map(|name| (name.version, name.name, name.title)))
    }

    #[test]
    fn names_of_other_tools_are_read() {
        for (file, expected) in [
            ("0001_create_users.sql", (1, "0001_create_users", "create_users")),
            ("V2__Add_phone.sql", (2, "V2__Add_phone", "Add_phone")),
            ("V20240102__x.sql", (20_240_102, "V20240102__x", "x")),
            ("20240102030405_x.sql", (20_240_102_030_405, "20240102030405_x", "x")),
            ("20240102030405_x.up.sql", (20_240_102_030_405, "20240102030405_x", "x")),
            ("000001_create-users.up.sql", (1, "000001_create-users", "create-users")),
        ] {
            assert_eq!(read(file), Ok(Some(expected)), "{file}");
        }
        for passed_over in [
            "README.md",
            "000001_x.down.sql",
            "20240102030405_x.down.sql",
            "U2__x.sql",
        ] {
            assert_eq!(read(passed_over), Ok(None), "{passed_over}");
        }
    }

    #[test]
    fn what_cannot_be_applied_once_is_refused_with_a_reason() {
        for (file, reason) in [
            ("V1.1__x.sql", "several parts"),
            ("V1_1__x.sql", "several parts"),
            ("R__views.sql", "run again"),
            ("B3__all.sql", "baseline"),
            ("V__x.sql", "is not named like"),
            ("V1__.sql", "is not named like"),
            ("X1__x.sql", "is not named like"),
            ("x.up.sql", "is not named like"),
            ("0011_x.SQL", "name it `.sql`"),
            ("0011_x.Sql", "name it `.sql`"),
        ] {
            let error = read(file).unwrap_err();
            assert!(
                error.contains(&format!("`sqlite/{file}`")) && error.contains(reason),
                "{error}"
            );
        }
    }
}
