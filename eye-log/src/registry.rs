//! Applications, tokens and rules: what the registry changes in the log add up to.
//!
//! What must stay true: only the writer changes it, in log order, and it is a fold of the log's registry records, so
//! that replaying the log gives the same registry. It lives here and not in the catalog because sending must work
//! while the index is away.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The number of an application: dense from 0, in order of registration. Users know it by its name.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ApplicationId(pub u32);

/// An application that sends events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// Its number.
    pub id: ApplicationId,
    /// Its name: unique, 1 to 100 characters, never changed.
    pub name: String,
    /// Whether its tokens are accepted.
    pub active: bool,
    /// When it was registered, unix microseconds.
    pub created_at: i64,
    /// What it may keep and send.
    pub limits: Limits,
}

/// What an application may keep and send; `None` is no limit of its own.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Limits {
    /// Events that arrived longer ago expire. Days.
    pub retention_days: Option<u32>,
    /// The oldest events expire where all of them together, before compression, are larger. Bytes.
    pub max_bytes: Option<u64>,
    /// Events a second that each of its tokens may send.
    pub rate: Option<u32>,
}

/// A token, known by the hash of its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Names the token without giving it away.
    pub id: Uuid,
    /// What it may do.
    pub kind: TokenKind,
    /// The application it acts for; `None` for analysts and admins.
    pub application: Option<ApplicationId>,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    /// When it was issued, unix microseconds.
    pub created_at: i64,
    /// Until when and from where it is accepted.
    pub terms: TokenTerms,
}

/// Until when and from where a token is accepted; by default for ever and from everywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenTerms {
    /// From this moment on it is refused, unix microseconds.
    pub expires_at: Option<i64>,
    /// Pages of these origins alone may use it, `https://shop.example` each; none for everybody, pages or not.
    pub origins: Vec<String>,
}

/// Which events a rule is for: those of a type, of one application or of all. Ordered by category, name and application.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleTarget {
    /// The events' category.
    pub category: String,
    /// The events' name.
    pub name: String,
    /// The application that sends them; `None` for those of every application that has no rule of its own for the type.
    pub application: Option<ApplicationId>,
}

/// What becomes of an event that breaks its rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleMode {
    /// It is refused.
    Enforce,
    /// It is stored, with what it breaks in its `meta`.
    Warn,
}

impl RuleMode {
    /// Returns the mode's name, as people write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Warn => "warn",
        }
    }
}

/// A rule that the data of some events keeps. The log keeps it and does not read its schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Which events it is for.
    pub target: RuleTarget,
    /// What becomes of an event that breaks it.
    pub mode: RuleMode,
    /// A JSON Schema as JSON text.
    pub schema: String,
    /// Counts from 1 how often the rule was set since there was none.
    pub version: u32,
    /// When it was set, unix microseconds.
    pub since: i64,
}

/// All rules; shared, so that whoever works with them sees at once whether they are still the same.
pub type Rules = Arc<BTreeMap<RuleTarget, Arc<Rule>>>;

/// So many rules there may be; each of them is held in memory.
pub const RULES_MAX: usize = 1000;

/// What a token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    /// Acts for one application.
    Application {
        /// May read the application's own events.
        read: bool,
        /// May send events.
        write: bool,
    },
    /// Reads everything, sends nothing.
    Analyst,
    /// May do everything.
    Admin,
}

/// A change to the registry that somebody asks for.
#[derive(Debug, Clone)]
pub enum Change {
    /// Registers an application, with a first token if wanted (its `application` is filled in).
    RegisterApplication {
        /// The name, 1 to 100 characters, already trimmed.
        name: String,
        /// A token issued in the same frame.
        token: Option<NewToken>,
    },
    /// Lets an application's tokens work or not.
    SetApplicationActive {
        /// Which application.
        name: String,
        /// Whether its tokens are accepted.
        active: bool,
    },
    /// Sets what an application may keep and send.
    SetLimits {
        /// Which application.
        name: String,
        /// Its limits from now on.
        limits: Limits,
    },
    /// Issues a token.
    IssueToken(NewToken),
    /// Takes a token back for good.
    RevokeToken {
        /// Which token.
        id: Uuid,
    },
    /// Sets the rule for some events, in place of the one there is.
    SetRule {
        /// Which events it is for.
        target: RuleTarget,
        /// What becomes of an event that breaks it.
        mode: RuleMode,
        /// A JSON Schema as JSON text.
        schema: String,
    },
    /// Removes a rule.
    RemoveRule {
        /// Which events it was for.
        target: RuleTarget,
    },
}

/// A token to be issued.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// Names the token without giving it away.
    pub id: Uuid,
    /// What it may do.
    pub kind: TokenKind,
    /// The application it acts for.
    pub application: Option<ApplicationId>,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    /// Until when and from where it is accepted.
    pub terms: TokenTerms,
}

/// Who asked for a change; goes into the record.
#[derive(Debug, Clone, Copy, Default)]
pub struct Actor {
    /// The acting token's id; nil for the owner of the folder.
    pub token: Uuid,
    /// The request that asked.
    pub request: Uuid,
}

/// What a change led to.
#[derive(Debug, Clone)]
pub enum Changed {
    /// The application as it is now.
    Application(Application),
    /// The token that was issued.
    Token(Token),
    /// The token is gone.
    Revoked,
    /// The rule as it is now.
    Rule(Arc<Rule>),
    /// The rule is gone.
    RuleRemoved,
}

/// One registry record's content, as kept in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RegistryChange {
    /// An application was registered.
    Registered {
        /// Its number.
        application: ApplicationId,
        /// Its name.
        name: String,
    },
    /// An application was disabled or enabled.
    SetActive {
        /// Which.
        application: ApplicationId,
        /// Whether its tokens are accepted.
        active: bool,
    },
    /// An application got other limits.
    SetLimits {
        /// Which.
        application: ApplicationId,
        /// Its limits from now on.
        limits: Limits,
    },
    /// A token was issued.
    Issued(NewTokenRecord),
    /// A token was revoked.
    Revoked {
        /// Which.
        token: Uuid,
    },
    /// A rule was set.
    RuleSet {
        /// Which events it is for.
        target: RuleTarget,
        /// What becomes of an event that breaks it.
        mode: RuleMode,
        /// A JSON Schema as JSON text.
        schema: String,
    },
    /// A rule was removed.
    RuleRemoved {
        /// Which events it was for.
        target: RuleTarget,
    },
}

/// The content of a token record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTokenRecord {
    /// The token's id.
    pub token: Uuid,
    /// What it may do.
    pub kind: TokenKind,
    /// The application it acts for.
    pub application: Option<ApplicationId>,
    /// SHA-256 of the secret.
    pub hash: [u8; 32],
    /// Until when and from where it is accepted.
    pub terms: TokenTerms,
}

/// More applications than this are not made up for a gap in their numbers.
const MAX_GAP: u32 = 1 << 16;

/// The applications, tokens and rules as of some offset.
#[derive(Debug, Clone, Default)]
pub struct Registry {
    applications: Vec<Application>,
    by_name: HashMap<String, ApplicationId>,
    tokens: BTreeMap<Uuid, Token>,
    by_hash: HashMap<[u8; 32], Uuid>,
    rules: Rules,
}

impl Registry {
    /// Returns an application by its number.
    pub fn application(&self, id: ApplicationId) -> Option<&Application> {
        self.applications.get(usize::try_from(id.0).ok()?)
    }

    /// Returns an application by its name.
    pub fn application_named(&self, name: &str) -> Option<&Application> {
        self.application(*self.by_name.get(name)?)
    }

    /// Returns all applications, in order of registration.
    pub fn applications(&self) -> impl Iterator<Item = &Application> {
        self.applications.iter()
    }

    /// Returns the token whose secret has this SHA-256. Looking up a hash tells nobody a secret by its time.
    pub fn token_by_hash(&self, sha256: &[u8; 32]) -> Option<&Token> {
        self.tokens.get(self.by_hash.get(sha256)?)
    }

    /// Returns a token by its id.
    pub fn token(&self, id: Uuid) -> Option<&Token> {
        self.tokens.get(&id)
    }

    /// Returns all tokens that were not revoked.
    pub fn tokens(&self) -> impl Iterator<Item = &Token> {
        self.tokens.values()
    }

    /// Returns all rules.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Returns the number the next application gets.
    pub(crate) fn next_application(&self) -> ApplicationId {
        ApplicationId(u32::try_from(self.applications.len()).unwrap_or(u32::MAX))
    }

    fn add_application(&mut self, name: String, active: bool, at: i64) {
        let id = self.next_application();
        self.by_name.entry(name.clone()).or_insert(id);
        self.applications.push(Application {
            id,
            name,
            active,
            created_at: at,
            limits: Limits::default(),
        });
    }

    /// Applies a record of the log that arrived at `at`. Records that refer to nothing change nothing.
    pub fn apply(&mut self, change: &RegistryChange, at: i64) {
        match change {
            RegistryChange::Registered { application, name } => {
                // A gap is what damage left: repair loses records, never the numbers that events carry.
                let gap = application.0.checked_sub(self.next_application().0);
                if gap.is_some_and(|gap| gap < MAX_GAP) && !self.by_name.contains_key(name) {
                    while self.next_application() < *application {
                        let name = format!("lost-{}", self.next_application().0);
                        self.add_application(name, false, at);
                    }
                    self.add_application(name.clone(), true, at);
                }
            }
            RegistryChange::SetActive {
                application,
                active,
            } => {
                let place = usize::try_from(application.0).unwrap_or(usize::MAX);
                if let Some(application) = self.applications.get_mut(place) {
                    application.active = *active;
                }
            }
            RegistryChange::SetLimits {
                application,
                limits,
            } => {
                let place = usize::try_from(application.0).unwrap_or(usize::MAX);
                if let Some(application) = self.applications.get_mut(place) {
                    application.limits = *limits;
                }
            }
            RegistryChange::Issued(issued) => {
                self.by_hash.insert(issued.hash, issued.token);
                let NewTokenRecord {
                    token: id,
                    kind,
                    application,
                    hash,
                    terms,
                } = issued.clone();
                self.tokens.insert(
                    id,
                    Token {
                        id,
                        kind,
                        application,
                        hash,
                        created_at: at,
                        terms,
                    },
                );
            }
            RegistryChange::Revoked { token } => {
                if let Some(token) = self.tokens.remove(token) {
                    self.by_hash.remove(&token.hash);
                }
            }
            RegistryChange::RuleSet {
                target,
                mode,
                schema,
            } => {
                let before = self.rules.get(target).map_or(0, |rule| rule.version);
                let rule = Rule {
                    target: target.clone(),
                    mode: *mode,
                    schema: schema.clone(),
                    version: before.saturating_add(1),
                    since: at,
                };
                Arc::make_mut(&mut self.rules).insert(target.clone(), Arc::new(rule));
            }
            RegistryChange::RuleRemoved { target } => {
                Arc::make_mut(&mut self.rules).remove(target);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_revoked_token_is_gone_and_names_stay_unique() {
        let mut registry = Registry::default();
        let register = |id, name: &str| RegistryChange::Registered {
            application: ApplicationId(id),
            name: name.into(),
        };
        registry.apply(&register(0, "a"), 1);
        registry.apply(&register(1, "a"), 2);
        assert_eq!(registry.applications().count(), 1);
        // The registrations of 1 and 2 are lost.
        registry.apply(&register(3, "d"), 2);
        let names: Vec<_> = registry
            .applications()
            .map(|known| (known.name.as_str(), known.active))
            .collect();
        assert_eq!(
            names,
            [
                ("a", true),
                ("lost-1", false),
                ("lost-2", false),
                ("d", true)
            ]
        );
        assert_eq!(
            registry.application_named("d").unwrap().id,
            ApplicationId(3)
        );
        registry.apply(&register(u32::MAX, "e"), 2);
        assert_eq!(registry.applications().count(), 4);
        let token = Uuid::from_u128(7);
        let record = NewTokenRecord {
            token,
            kind: TokenKind::Analyst,
            application: None,
            hash: [9; 32],
            terms: TokenTerms::default(),
        };
        registry.apply(&RegistryChange::Issued(record), 3);
        assert_eq!(registry.token_by_hash(&[9; 32]).unwrap().id, token);
        registry.apply(&RegistryChange::Revoked { token }, 4);
        assert!(registry.token_by_hash(&[9; 32]).is_none());
    }

    #[test]
    fn a_rule_counts_how_often_it_was_set_and_who_holds_the_rules_keeps_them() {
        let mut registry = Registry::default();
        let target = RuleTarget {
            category: "c".into(),
            name: "n".into(),
            application: None,
        };
        let set = |mode| RegistryChange::RuleSet {
            target: target.clone(),
            mode,
            schema: "{}".into(),
        };
        registry.apply(&set(RuleMode::Warn), 1);
        let held = registry.rules().clone();
        registry.apply(&set(RuleMode::Enforce), 2);
        let now = &registry.rules()[&target];
        assert_eq!(
            (now.version, now.since, now.mode),
            (2, 2, RuleMode::Enforce)
        );
        assert_eq!(held[&target].version, 1);
        let removed = RegistryChange::RuleRemoved {
            target: target.clone(),
        };
        registry.apply(&removed, 3);
        assert!(registry.rules().is_empty());
        registry.apply(&set(RuleMode::Warn), 4);
        assert_eq!(registry.rules()[&target].version, 1);
    }
}
