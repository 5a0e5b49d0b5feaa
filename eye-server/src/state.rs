//! What every request shares: the settings, the log, the index, and the bounds on what runs at once.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use eye_index::Index;
use eye_log::{Log, Offset, Reader};
use tokio::sync::Semaphore;
use uuid::Uuid;

use crate::auth;
use crate::config::Settings;
use crate::ingest::{Memory, OnTheirWay};
use crate::metrics::Metrics;
use crate::rejections::Rejections;
use crate::router;
use crate::schemas::{RuleBook, Schemas};
use crate::tasks::Tasks;
use crate::usage::Usage;

/// How many large bodies are decompressed or judged at once, off the threads that serve connections.
const LARGE_BODIES_AT_ONCE: usize = 4;

/// Hands a request what it needs; cheap to clone.
#[derive(Clone)]
pub(crate) struct AppState {
    shared: Arc<Shared>,
    owner: bool,
}

struct Shared {
    settings: Settings,
    log: Log,
    reader: Reader,
    /// Exchanged as a whole when it was made anew.
    index: RwLock<Index>,
    store_id: Uuid,
    admin_hash: Option<[u8; 32]>,
    memory: Memory,
    on_their_way: OnTheirWay,
    queries: Arc<Semaphore>,
    large_bodies: Arc<Semaphore>,
    tails: Arc<Semaphore>,
    tasks: Tasks,
    metrics: Arc<Metrics>,
    usage: Usage,
    rejections: Rejections,
    schemas: Schemas,
    started_at: i64,
    end_at_start: Offset,
    stopping: AtomicBool,
}

impl AppState {
    /// Puts together what an open store needs to be served.
    pub(crate) fn new(settings: Settings, log: Log, index: Index, rejections: Rejections) -> Self {
        let shared = Shared {
            reader: log.reader(),
            store_id: log.store_id(),
            admin_hash: settings.admin_token.reveal().map(auth::hash),
            memory: Memory::new(settings.memory_for_requests),
            on_their_way: OnTheirWay::default(),
            queries: Arc::new(Semaphore::new(settings.queries_max.max(1))),
            large_bodies: Arc::new(Semaphore::new(LARGE_BODIES_AT_ONCE)),
            tails: Arc::new(Semaphore::new(settings.tails_max)),
            tasks: Tasks::default(),
            metrics: Arc::new(Metrics::new(router::paths())),
            usage: Usage::open(&settings.data),
            rejections,
            schemas: Schemas::default(),
            started_at: eye_log::now(),
            end_at_start: log.reader().durable_end(),
            stopping: AtomicBool::new(false),
            settings,
            log,
            index: RwLock::new(index),
        };
        Self {
            shared: Arc::new(shared),
            owner: false,
        }
    }

    /// Returns the same state for requests of the folder's owner.
    pub(crate) fn as_owner(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            owner: true,
        }
    }

    pub(crate) fn is_owner(&self) -> bool {
        self.owner
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.shared.settings
    }

    pub(crate) fn log(&self) -> &Log {
        &self.shared.log
    }

    pub(crate) fn reader(&self) -> &Reader {
        &self.shared.reader
    }

    /// Returns the index that answers now. Whoever holds it longer than a question takes may hold one that is replaced.
    pub(crate) fn index(&self) -> Index {
        self.shared
            .index
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Answers from another index from now on.
    pub(crate) fn set_index(&self, index: Index) {
        *self
            .shared
            .index
            .write()
            .unwrap_or_else(PoisonError::into_inner) = index;
    }

    pub(crate) fn store_id(&self) -> Uuid {
        self.shared.store_id
    }

    pub(crate) fn admin_hash(&self) -> Option<&[u8; 32]> {
        self.shared.admin_hash.as_ref()
    }

    pub(crate) fn memory(&self) -> &Memory {
        &self.shared.memory
    }

    pub(crate) fn on_their_way(&self) -> &OnTheirWay {
        &self.shared.on_their_way
    }

    pub(crate) fn queries(&self) -> &Arc<Semaphore> {
        &self.shared.queries
    }

    pub(crate) fn large_bodies(&self) -> &Arc<Semaphore> {
        &self.shared.large_bodies
    }

    /// Returns what bounds how many tails are open.
    pub(crate) fn tails(&self) -> &Arc<Semaphore> {
        &self.shared.tails
    }

    /// Returns how many queries run now.
    pub(crate) fn queries_running(&self) -> usize {
        let free = self.queries().available_permits();
        self.settings().queries_max.saturating_sub(free)
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// Returns the same counts for what outlives a request.
    pub(crate) fn shared_metrics(&self) -> Arc<Metrics> {
        Arc::clone(&self.shared.metrics)
    }

    pub(crate) fn usage(&self) -> &Usage {
        &self.shared.usage
    }

    pub(crate) fn rejections(&self) -> &Rejections {
        &self.shared.rejections
    }

    /// Returns the rules that events are judged by now.
    pub(crate) fn rule_book(&self) -> Arc<RuleBook> {
        self.shared.schemas.of(&self.shared.log.registry())
    }

    pub(crate) fn tasks(&self) -> &Tasks {
        &self.shared.tasks
    }

    pub(crate) fn started_at(&self) -> i64 {
        self.shared.started_at
    }

    /// Returns whether the service is stopping; new events are refused then.
    pub(crate) fn is_stopping(&self) -> bool {
        self.shared.stopping.load(Ordering::Relaxed)
    }

    pub(crate) fn set_stopping(&self) {
        self.shared.stopping.store(true, Ordering::Relaxed);
    }

    /// Returns how many records have come that the index does not have, beyond what it did not have at the start: an
    /// index that grows back must not keep anybody from sending.
    pub(crate) fn new_lag(&self) -> Offset {
        let known = self.index().indexed_through().max(self.shared.end_at_start);
        self.reader().durable_end().saturating_sub(known)
    }
}
