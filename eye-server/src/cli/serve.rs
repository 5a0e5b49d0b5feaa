//! `eye serve`: the service.

use super::setting_flags::SettingFlags;
use super::{Common, Failure, Outcome, prepare};
use eye_log::Senders;
use eye_server::Settings;

/// Serve the HTTP API
///
/// SIGTERM or Ctrl-C stops accepting, answers what was accepted, syncs and exits with 0. The first start on an empty
/// folder prints an admin token once; EYE_ADMIN_TOKEN presets it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  eye serve\n  eye serve --data /srv/eye --listen 0.0.0.0:8001\n  \
                        EYE_ADMIN_TOKEN=… eye serve --listen 127.0.0.1:0"
)]
pub(crate) struct ServeArgs {
    #[command(flatten)]
    flags: SettingFlags,
}

pub(crate) async fn run(
    args: ServeArgs,
    common: &Common,
    senders: Senders,
) -> Result<Outcome, Failure> {
    common.folder_only("serve")?;
    let settings = common.settings(args.flags.given)?;
    prepare(&settings.log, settings.log_format);
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for warning in Settings::unknown_variables(names) {
        tracing::warn!("{warning}");
    }
    eye_server::serve(&settings, senders)
        .await
        .map_err(|error| Failure::Failed(error.to_string()))?;
    Ok(Outcome::Done)
}
