//! `eye token`: tokens of applications, analysts and admins.

use super::{
    Common, Failure, Outcome, print,
    table::{Align, Table},
};
use crate::client::{Client, MissingFolder, encoded};
use axum::http::Method;
use serde_json::{Value, json};

/// Issue, list and revoke tokens
#[derive(Debug, clap::Subcommand)]
pub(crate) enum TokenCommand {
    /// Issue a token and print it, once
    #[command(
        group(clap::ArgGroup::new("kind").required(true).args(["app", "analyst", "admin"])),
        after_help = "Examples:\n  eye token create --app shop --scope write --origin https://shop.example     safe to ship in its pages\n  \
                      eye token create --app shop --scope write,read\n  eye token create --analyst"
    )]
    Create {
        /// For this application
        #[arg(long, value_name = "NAME")]
        app: Option<String>,
        /// What an application's token may do [default: write,read]
        #[arg(
            long,
            value_delimiter = ',',
            value_enum,
            requires = "app",
            value_name = "write,read"
        )]
        scope: Vec<Scope>,
        /// Take the token from standard input: 20 or more characters that clients use already
        #[arg(long, requires = "app")]
        token_stdin: bool,
        /// Refuse it from then on: RFC 3339, a date, or now+90d
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
        /// Accept it from pages of this origin alone, https://shop.example; may be repeated
        #[arg(long, requires = "app", value_name = "ORIGIN")]
        origin: Vec<String>,
        /// May read everything of every application
        #[arg(long)]
        analyst: bool,
        /// May do everything
        #[arg(long)]
        admin: bool,
    },
    /// List the tokens, without their secrets
    List {
        /// Only those of this application
        #[arg(long, value_name = "NAME")]
        app: Option<String>,
    },
    /// Refuse a token from now on
    Revoke {
        /// The token's id, as `eye token list` prints it
        id: String,
    },
}

/// Says what an application's token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Scope {
    Write,
    Read,
}

pub(crate) async fn run(command: &TokenCommand, common: &Common) -> Result<Outcome, Failure> {
    let client = common.client(MissingFolder::Refuse).await?;
    let result = match command {
        TokenCommand::Create {
            app,
            scope,
            analyst,
            token_stdin,
            expires,
            origin,
            ..
        } => {
            let (path, mut body) = creation(app.as_deref(), scope, *analyst);
            if let Some(expires) = expires {
                body["expires_at"] = expires.as_str().into();
            }
            if !origin.is_empty() {
                body["origins"] = origin.as_slice().into();
            }
            if *token_stdin {
                body["token"] = super::app::token_of_stdin()?.into();
            }
            create(&client, &path, &body, common).await
        }
        TokenCommand::List { app } => list(&client, app.as_deref(), common).await,
        TokenCommand::Revoke { id } => revoke(&client, id, common).await,
    };
    client.close().await;
    result.map(|()| Outcome::Done)
}

fn creation(app: Option<&str>, scope: &[Scope], analyst: bool) -> (String, Value) {
    let Some(app) = app else {
        let kind = if analyst { "analyst" } else { "admin" };
        return ("/tokens".to_owned(), json!({ "kind": kind }));
    };
    let asked = |wanted| scope.is_empty() || scope.contains(&wanted);
    let mut scopes = Vec::new();
    for (wanted, name) in [(Scope::Write, "write"), (Scope::Read, "read")] {
        if asked(wanted) {
            scopes.push(name);
        }
    }
    (
        format!("/applications/{}/tokens", encoded(app)),
        json!({ "scopes": scopes }),
    )
}

async fn create(client: &Client, path: &str, body: &Value, common: &Common) -> Result<(), Failure> {
    let mut created: Value = client.call(Method::POST, path, Some(body)).await?.json()?;
    // Whoever gave it knows it.
    let given = body.get("token").is_some();
    if given && let Some(fields) = created.as_object_mut() {
        fields.remove("token");
    }
    if common.json {
        return print(&created.to_string());
    }
    let facts = format!(
        "id      {}\nkind    {}\nscopes  {}",
        created["id"].as_str().unwrap_or("-"),
        created["kind"].as_str().unwrap_or("-"),
        scopes_of(&created),
    );
    print(&match created["token"].as_str() {
        Some(token) => format!("{facts}\ntoken   {token}\n\nThe token is shown only now."),
        None => format!("{facts}\n\nThe token is accepted from now on."),
    })
}

async fn list(client: &Client, app: Option<&str>, common: &Common) -> Result<(), Failure> {
    let path = app.map_or_else(
        || "/tokens".to_owned(),
        |app| format!("/applications/{}/tokens", encoded(app)),
    );
    let tokens = client.list(&path, "tokens").await?;
    if common.json {
        return print(&json!({ "tokens": tokens }).to_string());
    }
    let columns = [
        "id",
        "kind",
        "scopes",
        "application",
        "created",
        "last used",
        "expires",
    ];
    let mut table = Table::new(&columns.map(|name| (name, Align::Left)));
    for token in &tokens {
        let text = |key: &str| token[key].as_str().unwrap_or("-").to_owned();
        table.push([
            text("id"),
            text("kind"),
            scopes_of(token),
            text("application"),
            text("created_at"),
            text("last_used"),
            text("expires_at"),
        ]);
    }
    table.print()
}

async fn revoke(client: &Client, id: &str, common: &Common) -> Result<(), Failure> {
    client
        .call(Method::DELETE, &format!("/tokens/{}", encoded(id)), None)
        .await?;
    if common.json {
        return print(&json!({ "id": id, "revoked": true }).to_string());
    }
    print(&format!("{id} is revoked"))
}

fn scopes_of(token: &Value) -> String {
    let scopes: Vec<&str> = token["scopes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    if scopes.is_empty() {
        "-".to_owned()
    } else {
        scopes.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_token_goes_to_its_path() {
        assert_eq!(
            creation(None, &[], true),
            ("/tokens".to_owned(), json!({"kind": "analyst"}))
        );
        assert_eq!(
            creation(None, &[], false),
            ("/tokens".to_owned(), json!({"kind": "admin"}))
        );
        let path = "/applications/a%2Fb/tokens".to_owned();
        assert_eq!(
            creation(Some("a/b"), &[Scope::Write], false),
            (path.clone(), json!({"scopes": ["write"]}))
        );
        assert_eq!(
            creation(Some("a/b"), &[], false),
            (path, json!({"scopes": ["write", "read"]}))
        );
    }
}
