//! Where settings come from: flags, then the environment, then `eye.toml`, then the defaults.

use std::path::{Path, PathBuf};

use super::file::{ConfigFile, NAME};
use super::{DEFAULT_DATA, Settings, TABLE};
use crate::parameters::guess;

/// The variables of the command line that are no settings of a service.
const OTHER_VARIABLES: [&str; 2] = ["EYE_CONFIG", "EYE_TOKEN"];

/// Says where a value comes from that is not the default.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A flag of the command line.
    Flag,
    /// A variable of the environment.
    Environment,
    /// A line of a file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
}

/// Holds what a command line says about settings.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// `--data`.
    pub data: Option<PathBuf>,
    /// `--config`.
    pub config: Option<PathBuf>,
    /// Other flags: the setting's name and what was written.
    pub flags: Vec<(&'static str, String)>,
}

/// Returns the data folder that a command line, the environment or `--config FILE` name, or the default. `eye.toml` in
/// the folder is not read: commands that only read files work whatever it says.
pub fn data_folder(given: &Given) -> Result<PathBuf, String> {
    given.place(&environment).map(|(data, _, _)| data)
}

/// Returns a variable; an empty one means that there is none.
pub(super) fn environment(name: &str) -> Option<String> {
    let value = std::env::var(name).ok()?;
    let value = value.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

impl Given {
    /// Finds the data folder, where it comes from, and the file that was named.
    fn place(
        &self,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> Result<(PathBuf, Option<Origin>, Option<ConfigFile>), String> {
        let path = self
            .config
            .clone()
            .or_else(|| variable("EYE_CONFIG").map(PathBuf::from));
        let file = path.as_deref().map(ConfigFile::read).transpose()?;
        if let Some(data) = &self.data {
            return Ok((data.clone(), Some(Origin::Flag), file));
        }
        if let Some(data) = variable("EYE_DATA") {
            return Ok((data.into(), Some(Origin::Environment), file));
        }
        let in_file = file.as_ref().and_then(|file| {
            let entry = file.entry("data")?;
            let origin = Origin::File {
                path: file.path.clone(),
                line: entry.line,
            };
            Some((file.beside(Path::new(&entry.text)), Some(origin)))
        });
        let (data, origin) = in_file.unwrap_or((DEFAULT_DATA.into(), None));
        Ok((data, origin, file))
    }
}

impl Settings {
    /// Returns the settings that are in force for a command line: what it gives, then `EYE_<SETTING>` in the
    /// environment, then `--config FILE` or `eye.toml` in the data folder, then the defaults. The error names the
    /// place of what is wrong and says what to write there.
    pub fn load(given: &Given) -> Result<Self, String> {
        Self::read(given, &environment)
    }

    fn read(given: &Given, variable: &dyn Fn(&str) -> Option<String>) -> Result<Self, String> {
        let (data, origin, named) = given.place(variable)?;
        let file = match named {
            Some(file) => Some(file),
            None => {
                let file = ConfigFile::read_if_there(&data.join(NAME))?;
                if let Some(entry) = file.as_ref().and_then(|file| file.entry("data")) {
                    return Err(format!(
                        "{}, line {}: this file was found in the data folder and cannot name another; use --data, EYE_DATA \
                         or a file given with --config",
                        data.join(NAME).display(),
                        entry.line
                    ));
                }
                file
            }
        };
        let mut settings = Self::new(data);
        settings
            .origins
            .extend(origin.map(|origin| ("data", origin)));
        for setting in TABLE.iter().filter(|setting| setting.name != "data") {
            let flag = given.flags.iter().find(|(name, _)| *name == setting.name);
            let found = if let Some((_, text)) = flag {
                Some((text.trim().to_owned(), Origin::Flag))
            } else if let Some(text) = variable(&setting.variable()) {
                Some((text, Origin::Environment))
            } else {
                file.as_ref().and_then(|file| {
                    let entry = file.entry(setting.name)?;
                    let origin = Origin::File {
                        path: file.path.clone(),
                        line: entry.line,
                    };
                    Some((entry.text.clone(), origin))
                })
            };
            let Some((text, origin)) = found.filter(|(text, _)| !text.is_empty()) else {
                continue;
            };
            let slot = (setting.slot)(&mut settings);
            slot.read(&text).map_err(|why| match &origin {
                Origin::Flag => format!("--{} {why}", setting.flag()),
                Origin::Environment => format!("{} {why}", setting.variable()),
                Origin::File { path, line } => {
                    format!("{}, line {line}: {} {why}", path.display(), setting.name)
                }
            })?;
            if let (Origin::File { .. }, Some(file)) = (&origin, &file) {
                slot.place(&|path| file.beside(path));
            }
            settings.origins.insert(setting.name, origin);
        }
        settings.check()?;
        Ok(settings)
    }

    /// Returns a warning for every variable among `names` that begins with `EYE_` and sets nothing, with the setting
    /// that was probably meant.
    pub fn unknown_variables(names: impl IntoIterator<Item = String>) -> Vec<String> {
        let settings: Vec<_> = TABLE.iter().map(super::Setting::variable).collect();
        let known: Vec<&str> = settings
            .iter()
            .map(String::as_str)
            .chain(OTHER_VARIABLES)
            .collect();
        let unknown = names
            .into_iter()
            .filter(|name| name.starts_with("EYE_") && !known.contains(&name.as_str()));
        unknown
            .map(|name| {
                format!(
                    "{name} is no setting and does nothing.{}",
                    guess(&name, &known)
                )
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::time::Duration;

    use super::*;
    use crate::config::Zone;

    fn with(variables: &[(&str, &str)]) -> Result<Settings, String> {
        let given = Given {
            data: Some("/nowhere/at/all".into()),
            ..Given::default()
        };
        read(&given, variables)
    }

    fn read(given: &Given, variables: &[(&str, &str)]) -> Result<Settings, String> {
        Settings::read(given, &|name| {
            let (_, value) = variables.iter().find(|(known, _)| *known == name)?;
            (!value.is_empty()).then(|| (*value).to_owned())
        })
    }

    #[test]
    fn the_environment_overrides_defaults() {
        let settings = with(&[
            ("EYE_EVENT_MAX_BYTES", "1MiB"),
            ("EYE_READ_WAIT", "250ms"),
            ("EYE_DEFAULT_TIMEZONE", "-03:30"),
            ("EYE_LISTEN", ""),
        ])
        .unwrap();
        assert_eq!(settings.event_max_bytes, 1 << 20);
        assert_eq!(settings.read_wait, Duration::from_millis(250));
        assert_eq!(settings.default_timezone, Zone(-12_600));
        assert_eq!(settings.listen, "127.0.0.1:8001");
    }

    #[test]
    fn flags_come_before_the_environment_and_that_before_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        std::fs::write(
            &path,
            "queries_max = 3\ndepth_max = 4\nlisten = \"file:1\"\n",
        )
        .unwrap();
        let given = Given {
            data: Some(folder.path().into()),
            flags: vec![("listen", "flag:1".into())],
            ..Given::default()
        };
        let settings = read(&given, &[("EYE_LISTEN", "env:1"), ("EYE_DEPTH_MAX", "5")]).unwrap();
        assert_eq!(settings.listen, "flag:1");
        assert_eq!(settings.depth_max, 5);
        assert_eq!(settings.queries_max, 3);
        let expected = [
            ("data", Origin::Flag),
            ("depth_max", Origin::Environment),
            ("listen", Origin::Flag),
            ("queries_max", Origin::File { path, line: 1 }),
        ];
        assert_eq!(settings.origins, expected.into());
    }

    #[test]
    fn a_file_given_by_name_may_say_where_the_data_is_and_the_one_in_the_folder_may_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        std::fs::write(&path, "data = \"there\"\n").unwrap();
        let named = Given {
            config: Some(path),
            ..Given::default()
        };
        let settings = read(&named, &[]).unwrap();
        assert_eq!(settings.data, folder.path().join("there"));
        assert_eq!(
            read(&named, &[("EYE_DATA", "elsewhere")]).unwrap().data,
            Path::new("elsewhere")
        );
        let found = Given {
            data: Some(folder.path().into()),
            ..Given::default()
        };
        let refused = read(&found, &[]).unwrap_err();
        assert!(refused.contains("cannot name another"), "{refused}");
    }

    #[test]
    fn a_secret_in_a_file_that_others_may_read_is_refused() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(NAME);
        std::fs::write(&path, "admin_token = \"eye_a_01234567890123\"\n").unwrap();
        let given = Given {
            data: Some(folder.path().into()),
            ..Given::default()
        };
        let mode = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode));
        mode(0o640).unwrap();
        let refused = read(&given, &[]).unwrap_err();
        assert!(refused.contains("chmod 600"), "{refused}");
        mode(0o600).unwrap();
        assert!(read(&given, &[]).unwrap().admin_token.reveal().is_some());
    }

    #[test]
    fn a_wrong_value_is_named_where_it_stands() {
        let refused = with(&[("EYE_DEPTH_MAX", "deep")]).unwrap_err();
        assert!(
            refused.starts_with("EYE_DEPTH_MAX is \"deep\""),
            "{refused}"
        );
        let refused = with(&[("EYE_DEFAULT_TIMEZONE", "Berlin")]).unwrap_err();
        assert!(refused.contains("+02:00"), "{refused}");
        let refused = with(&[("EYE_LOG", "eye=loud")]).unwrap_err();
        assert!(refused.contains("eye_index=debug"), "{refused}");
    }

    #[test]
    fn what_the_log_cannot_keep_is_refused_at_the_start() {
        for (name, value) in [
            ("EYE_REQUEST_MAX_BYTES", "65MiB"),
            ("EYE_REQUEST_MAX_EVENTS", "100001"),
            ("EYE_SEGMENT_MAX_BYTES", "2GiB"),
            ("EYE_SEGMENT_MAX_BYTES", "1KiB"),
            ("EYE_DEPTH_MAX", "1000"),
            ("EYE_EVENT_MAX_BYTES", "17MiB"),
            ("EYE_MEMORY_FOR_REQUESTS", "1MiB"),
            ("EYE_QUERIES_MAX", "0"),
        ] {
            let refused = with(&[(name, value)]).err();
            assert!(refused.is_some(), "{name}={value}");
        }
    }

    #[test]
    fn an_admin_token_that_could_be_guessed_is_refused_and_not_repeated() {
        let refused = with(&[("EYE_ADMIN_TOKEN", "change-me")]).unwrap_err();
        assert!(refused.contains("at least 20"), "{refused}");
        assert!(!refused.contains("change-me"), "{refused}");
        assert!(with(&[("EYE_ADMIN_TOKEN", "eye_a_01234567890123")]).is_ok());
    }

    #[test]
    fn a_mistyped_variable_is_noticed() {
        let names = ["EYE_DISK_RESERV", "EYE_LISTEN", "EYE_READ_WAIT", "PATH"];
        let warnings = Settings::unknown_variables(names.map(str::to_owned));
        assert_eq!(
            warnings,
            ["EYE_DISK_RESERV is no setting and does nothing. Did you mean \"EYE_DISK_RESERVE\"?"]
        );
    }
}
