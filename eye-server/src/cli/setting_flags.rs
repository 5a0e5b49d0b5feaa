//! A flag for every setting, made from the table of settings.

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches};
use eye_server::config::{Setting, TABLE};

/// Holds the settings that were given as flags: name and text.
#[derive(Debug, Default)]
pub(crate) struct SettingFlags {
    pub(crate) given: Vec<(&'static str, String)>,
}

/// The data folder is an option of every command, and a secret is none: everybody on a machine sees command lines.
fn settings() -> impl Iterator<Item = &'static Setting> {
    TABLE
        .iter()
        .filter(|setting| setting.name != "data" && !setting.is_secret())
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let given = settings().filter_map(|setting| {
            let text = matches.get_one::<String>(setting.name)?;
            Some((setting.name, text.clone()))
        });
        Ok(Self {
            given: given.collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        settings().fold(command, |command, setting| {
            let value = match setting.unit() {
                _ if setting.name == "listen" => "HOST:PORT",
                "" => "VALUE",
                "seconds" => "TIME",
                unit if unit.starts_with("bytes") => "BYTES",
                _ => "N",
            };
            let arg = Arg::new(setting.name)
                .long(setting.flag())
                .value_name(value)
                .help(setting.help())
                .help_heading(
                    "Settings (also EYE_… and eye.toml; `eye config` shows what is in force)",
                );
            command.arg(arg)
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}
