//! `eye config`: every setting in force and where it comes from.

use super::setting_flags::SettingFlags;
use super::table::{Align, Table};
use super::{Common, Failure, Outcome, note, print};
use crate::client::{Client, MissingFolder};
use eye_server::Settings;
use serde_json::{Value, json};

/// Print every setting in force, and where it comes from
///
/// Asks the service that runs on the folder, or the one given with --server (as an admin). Where none runs, or with
/// --check or settings as flags, shows what a service started here would use: flags go before EYE_… in the
/// environment, that before eye.toml, that before the defaults.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  eye config\n  eye config --check --config /etc/eye/eye.toml && systemctl restart eye"
)]
pub(crate) struct ConfigArgs {
    /// Look at flags, environment and file here, even where a service runs; exit status 3 if something is wrong
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    flags: SettingFlags,
}

pub(crate) async fn run(args: ConfigArgs, common: &Common) -> Result<Outcome, Failure> {
    let here = args.check || !args.flags.given.is_empty();
    let running = if here {
        common.folder_only("config --check")?;
        None
    } else {
        Client::of_running(&common.target(MissingFolder::Refuse)).await?
    };
    let settings = match &running {
        Some(client) => {
            let mut answer: Value = client.get("/admin/settings").await?.json()?;
            answer["settings"].take()
        }
        None => {
            let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
            for warning in Settings::unknown_variables(names) {
                note(&format!("eye: {warning}"));
            }
            common.settings(args.flags.given)?.in_force()
        }
    };
    let place = running.as_ref().map(|client| client.place().to_owned());
    if let Some(client) = running {
        client.close().await;
    }
    if common.json {
        print(&json!({"running": place, "settings": settings}).to_string())?;
        return Ok(Outcome::Done);
    }
    note(&match place {
        Some(place) => format!("in force in the service at {place}:"),
        None => format!("what `eye serve` on {} would use:", common.data.display()),
    });
    let mut table = Table::new(&[
        ("setting", Align::Left),
        ("value", Align::Left),
        ("from", Align::Left),
    ]);
    for setting in settings.as_array().into_iter().flatten() {
        let text = |name: &str| setting[name].as_str().unwrap_or_default().to_owned();
        let from = setting["where"]
            .as_str()
            .map_or_else(|| text("from"), str::to_owned);
        table.push([text("name"), text("text"), from]);
    }
    table.print()?;
    Ok(Outcome::Done)
}
