//! `eye serve`: the service.

use super::{Common, Failure, Outcome};

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
    /// Where to listen; port 0 picks one and prints it [default: 127.0.0.1:8001]
    // No default here: EYE_LISTEN is read with the other settings.
    #[arg(long, value_name = "HOST:PORT", env = "EYE_LISTEN")]
    listen: Option<String>,
}

pub(crate) async fn run(args: &ServeArgs, common: &Common) -> Result<Outcome, Failure> {
    common.folder_only("serve")?;
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    for warning in eye_server::Settings::unknown_variables(names) {
        tracing::warn!("{warning}");
    }
    let mut settings = eye_server::Settings::load(&common.data).map_err(Failure::Failed)?;
    if let Some(listen) = args
        .listen
        .as_ref()
        .filter(|listen| !listen.trim().is_empty())
    {
        settings.listen = listen.clone();
    }
    let failed = |error: eye_server::StartError| Failure::Failed(error.to_string());
    let app = eye_server::open(&settings).await.map_err(failed)?;
    app.serve().await.map_err(failed)?;
    Ok(Outcome::Done)
}
