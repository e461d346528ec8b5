//! Where outboxes are.

use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use end_to_end::{Server, unique};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};
use tempfile::TempDir;
use wilco::Outbox;

/// A file, or a database.
pub(super) enum Place {
    File(TempDir),
    Postgres(String),
}

impl Place {
    pub(super) fn file() -> Self {
        Self::File(tempfile::tempdir().expect("a directory"))
    }

    /// A database of its own.
    pub(super) fn postgres(server: &Server) -> Self {
        let name = unique("outbox").replace('-', "_");
        let url = |name: &str| format!("postgres://postgres@{}/{name}", server.address());
        super::block(async {
            // It listens before it is ready.
            let mut connection = loop {
                match PgConnection::connect(&url("postgres")).await {
                    Ok(connection) => break connection,
                    Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
                }
            };
            let create = AssertSqlSafe(format!("CREATE DATABASE {name}"));
            connection.execute(create).await.expect("a database");
        });
        Self::Postgres(url(&name))
    }

    pub(super) fn path(&self) -> PathBuf {
        match self {
            Self::File(directory) => directory.path().join("orders.outbox"),
            Self::Postgres(_) => panic!("it is no file"),
        }
    }

    /// Opens it once more, as another process would.
    pub(super) async fn open(&self) -> Outbox {
        let opened = match self {
            Self::File(_) => Outbox::open(self.path()).await,
            Self::Postgres(_) => Outbox::postgres(self.pg().await).await,
        };
        opened.expect("it opens")
    }

    /// Changes something behind its back.
    pub(super) async fn execute(&self, sql: &'static str) {
        match self {
            Self::File(_) => self.sqlite().await.execute(sql).await.map(drop),
            Self::Postgres(_) => self.pg().await.execute(sql).await.map(drop),
        }
        .expect("it is changed");
    }

    pub(super) async fn pg(&self) -> PgPool {
        let Self::Postgres(url) = self else { panic!("it is a file") };
        let options = PgConnectOptions::from_str(url).expect("a URL");
        let pool = PgPoolOptions::new().max_connections(4).connect_with(options);
        pool.await.expect("it connects")
    }

    pub(super) async fn sqlite(&self) -> SqlitePool {
        let options = SqliteConnectOptions::new().filename(self.path()).create_if_missing(true);
        let options = options.busy_timeout(Duration::from_millis(200));
        SqlitePool::connect_with(options).await.expect("it opens")
    }
}
