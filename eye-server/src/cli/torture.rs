//! `eye torture`: whether this disk keeps what was acknowledged, tried with SIGKILL over and over.

mod deed;

use super::{Common, Failure, Outcome, figures, print, progress::Progress};
use deed::{Acknowledged, Deeds};
use eye_log::{Log, LogConfig, OpenError, ReadError};
use serde_json::json;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a writer lives at most before it is killed.
const LIFE_MAX_MILLIS: u64 = 400;
/// How long the rates are measured at the end.
const MEASURED: Duration = Duration::from_secs(2);
/// Small segments, so that every life rolls and seals.
const SEGMENT_BYTES: u64 = 1 << 20;

/// Kill a writer with SIGKILL over and over, and compare what it acknowledged with what is there
///
/// Writes into a folder of its own inside the data folder, on the same disk, and removes it at the end. Prints how long
/// syncs take and how many events a second this disk stores safely. A kill leaves the page cache whole: for power cuts
/// see the proofs in docs/operations.md. Exit status 1 if anything acknowledged was lost.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  eye torture --seconds 60\n  eye torture --cycles 1000 --json")]
pub(crate) struct TortureArgs {
    /// How long to go on
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Go on for so many kills instead
    #[arg(long, value_name = "N")]
    cycles: Option<u64>,
    /// Write into this folder until killed, and print what was acknowledged (for scripts)
    #[arg(long, value_name = "DIR", hide = true)]
    writer: Option<PathBuf>,
    /// Compare this folder with what a writer printed, on standard input (for scripts)
    #[arg(long, value_name = "DIR", hide = true, conflicts_with = "writer")]
    check: Option<PathBuf>,
    /// Tells one writer's events from another's
    #[arg(long, value_name = "N", hide = true, default_value_t = 1)]
    run: u64,
}

pub(crate) async fn run(args: TortureArgs, common: &Common) -> Result<Outcome, Failure> {
    common.folder_only("torture")?;
    let stop = Arc::new(AtomicBool::new(false));
    let asked = stop.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            asked.store(true, Ordering::Relaxed);
        }
    });
    let (data, in_json) = (common.data.clone(), common.json);
    let work = tokio::task::spawn_blocking(move || match (&args.writer, &args.check) {
        (Some(folder), _) => deed::write(folder, &config(), args.run).map_err(failed),
        (None, Some(folder)) => check_given(folder),
        (None, None) => torture(&args, &data, in_json, &stop),
    });
    work.await
        .map_err(|error| Failure::Failed(error.to_string()))?
}

pub(super) fn config() -> LogConfig {
    LogConfig {
        segment_max_bytes: SEGMENT_BYTES,
        ..LogConfig::default()
    }
}

fn failed(error: impl std::fmt::Display) -> Failure {
    Failure::Failed(error.to_string())
}

/// Compares a folder with the lines of standard input.
fn check_given(folder: &Path) -> Result<Outcome, Failure> {
    let mut acknowledged = Acknowledged::default();
    for line in std::io::stdin().lock().lines() {
        acknowledged.note(&line.map_err(failed)?);
    }
    let verdict = verdict(folder, &acknowledged)?;
    print(&format!(
        "{} events acknowledged, {} there, {} wrong",
        acknowledged.events(),
        verdict.there,
        verdict.wrong.len()
    ))?;
    verdict
        .wrong
        .iter()
        .take(10)
        .for_each(|what| eprintln!("eye: {what}"));
    Ok(if verdict.wrong.is_empty() {
        Outcome::Done
    } else {
        Outcome::No
    })
}

/// What a folder holds, compared with what was acknowledged.
struct Verdict {
    there: u64,
    wrong: Vec<String>,
}

/// Opens what a killed writer left, reads all of it, and compares.
fn verdict(folder: &Path, acknowledged: &Acknowledged) -> Result<Verdict, Failure> {
    let opened = match Log::open(folder, config()) {
        Ok((log, _)) => log,
        Err(error @ OpenError::Damaged { .. }) => {
            let wrong = vec![error.to_string()];
            return Ok(Verdict { there: 0, wrong });
        }
        Err(error) => return Err(failed(error)),
    };
    let read = Deeds::of(&opened);
    opened.close();
    match read {
        Ok(deeds) => Ok(Verdict {
            there: deeds.events(),
            wrong: acknowledged.compare(&deeds),
        }),
        Err(error @ ReadError::Damaged(_)) => Ok(Verdict {
            there: 0,
            wrong: vec![error.to_string()],
        }),
        Err(error) => Err(failed(error)),
    }
}

/// Kills its child when it goes, whatever happens.
struct Writer(Child);

impl Drop for Writer {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to kill.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Removes the folder when it goes.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn torture(
    args: &TortureArgs,
    data: &Path,
    in_json: bool,
    stop: &AtomicBool,
) -> Result<Outcome, Failure> {
    let folder = Folder(data.join(format!("torture-{}", std::process::id())));
    std::fs::create_dir_all(&folder.0).map_err(failed)?;
    let began = Instant::now();
    let mut progress = Progress::counting("torturing", "kills");
    let mut acknowledged = Acknowledged::default();
    let (mut cycles, mut wrong) = (0, Vec::new());
    let seed = u64::from(std::process::id()) ^ eye_log::now().unsigned_abs();
    while wrong.is_empty() && !stop.load(Ordering::Relaxed) {
        let done = match args.cycles {
            Some(wanted) => cycles >= wanted,
            None => began.elapsed().as_secs() >= args.seconds,
        };
        if done {
            break;
        }
        cycles += 1;
        live_and_die(&folder.0, cycles, mixed(seed + cycles), &mut acknowledged)?;
        wrong = verdict(&folder.0, &acknowledged)?.wrong;
        progress.tick(cycles, args.cycles, None);
        if acknowledged.events() > 200_000 {
            // A log that has grown long makes every look at it long.
            acknowledged.forget();
            std::fs::remove_dir_all(&folder.0).map_err(failed)?;
            std::fs::create_dir_all(&folder.0).map_err(failed)?;
        }
    }
    progress.clear();
    let rates = deed::rates(&folder.0.join("rates"), MEASURED).map_err(failed)?;
    let lost = wrong.len();
    print(&if in_json {
        json!({
            "cycles": cycles, "acknowledged": acknowledged.total(), "wrong": wrong, "seconds": began.elapsed().as_secs(),
            "sync_ms": {"p50": rates.sync_p50, "p99": rates.sync_p99, "max": rates.sync_max},
            "events_per_second": {"single": rates.singles, "batches_of_500": rates.batches},
        })
        .to_string()
    } else {
        format!(
            "{} kills, {} events acknowledged, {lost} lost or wrong\n\
             an append with its sync: {:.2} ms at the median, {:.2} ms at p99, {:.2} ms at most\n\
             safe rate: {} single events a second one after the other, {} a second in batches of 500",
            figures::count(cycles),
            figures::count(acknowledged.total()),
            rates.sync_p50,
            rates.sync_p99,
            rates.sync_max,
            figures::count(rates.singles),
            figures::count(rates.batches),
        )
    })?;
    wrong
        .iter()
        .take(10)
        .for_each(|what| eprintln!("eye: {what}"));
    Ok(if wrong.is_empty() {
        Outcome::Done
    } else {
        Outcome::No
    })
}

/// Lets a writer write, kills it at a random moment, and notes what it had said by then.
fn live_and_die(
    folder: &Path,
    run: u64,
    random: u64,
    acknowledged: &mut Acknowledged,
) -> Result<(), Failure> {
    let program = std::env::current_exe().map_err(failed)?;
    let mut child = Command::new(program)
        .args(["torture", "--run", &run.to_string(), "--writer"])
        .arg(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(failed)?;
    let said = child.stdout.take();
    let mut writer = Writer(child);
    let listener = std::thread::spawn(move || {
        let lines = said.map(|said| BufReader::new(said).lines());
        lines
            .into_iter()
            .flatten()
            .map_while(Result::ok)
            .collect::<Vec<_>>()
    });
    std::thread::sleep(Duration::from_millis(20 + random % LIFE_MAX_MILLIS));
    let _ = writer.0.kill();
    let _ = writer.0.wait();
    drop(writer);
    let lines = listener.join().unwrap_or_default();
    lines.iter().for_each(|line| acknowledged.note(line));
    std::io::stdout().flush().map_err(failed)
}

/// Spreads a number over all bits (SplitMix64).
fn mixed(x: u64) -> u64 {
    let x = x.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x ^ (x >> 27)
}
