//! Where webhooks are kept: `management.redb`, a JSON document per webhook in one table.

use std::path::Path;

use redb::backends::FileBackend;
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};

use super::model::Webhook;
use crate::error::ManagementError;

const WEBHOOKS: TableDefinition<'_, &str, &str> = TableDefinition::new("webhooks");

/// See the module's documentation.
pub(crate) struct WebhookFile {
    database: Database,
    path: String,
}

impl WebhookFile {
    /// Opens or creates the file in a directory. Only its owner may read it: it holds secrets.
    ///
    /// `has_history`: whether the broker's store existed before.
    pub(crate) fn open(directory: &Path, has_history: bool) -> Result<Self, ManagementError> {
        use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
        std::fs::create_dir_all(directory)?;
        let path = directory.join("management.redb");
        let is_empty = std::fs::metadata(&path).map_or(true, |found| found.len() == 0);
        if has_history && is_empty {
            tracing::warn!(
                "{} was not there and is made anew with 0 webhooks; those that it held are gone",
                path.display()
            );
        }
        let mut options = std::fs::OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(&path)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o600))?;
        let path = path.display().to_string();
        let backend = FileBackend::new(file).map_err(|error| wrong(&path, error))?;
        let database = Database::builder()
            .create_with_backend(backend)
            .map_err(|error| wrong(&path, error))?;
        let this = Self { database, path };
        this.write(|_| Ok(()))?;
        Ok(this)
    }

    /// All webhooks.
    pub(crate) fn all(&self) -> Result<Vec<Webhook>, ManagementError> {
        let read = || -> Result<Vec<String>, redb::Error> {
            let table = self.database.begin_read()?.open_table(WEBHOOKS)?;
            let texts = table.iter()?.map(|entry| Ok(entry?.1.value().to_owned()));
            texts.collect()
        };
        let texts = read().map_err(|error| wrong(&self.path, error))?;
        let parse = |text: String| serde_json::from_str(&text);
        let webhooks: Result<_, _> = texts.into_iter().map(parse).collect();
        webhooks.map_err(|error| wrong(&self.path, error))
    }

    /// Stores webhooks as they are now; durable on return.
    pub(crate) fn put(&self, webhooks: &[Webhook]) -> Result<(), ManagementError> {
        let text = |webhook: &Webhook| Ok((webhook.id.clone(), serde_json::to_string(webhook)?));
        let texts: Result<Vec<(String, String)>, serde_json::Error> =
            webhooks.iter().map(text).collect();
        let texts = texts.map_err(|error| wrong(&self.path, error))?;
        self.write(|table| {
            let mut texts = texts.iter();
            texts.try_for_each(|(id, text)| table.insert(id.as_str(), text.as_str()).map(drop))
        })
    }

    /// Removes a webhook.
    pub(crate) fn remove(&self, id: &str) -> Result<(), ManagementError> {
        self.write(|table| table.remove(id).map(drop))
    }

    fn write(
        &self,
        change: impl FnOnce(&mut redb::Table<'_, &str, &str>) -> Result<(), redb::StorageError>,
    ) -> Result<(), ManagementError> {
        let write = || -> Result<(), redb::Error> {
            let transaction = self.database.begin_write()?;
            change(&mut transaction.open_table(WEBHOOKS)?)?;
            Ok(transaction.commit()?)
        };
        write().map_err(|error| wrong(&self.path, error))
    }
}

fn wrong(path: &str, error: impl std::fmt::Display) -> ManagementError {
    ManagementError::Webhooks { path: path.to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhooks_survive_a_restart() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("a directory");
        let (one, two) = (Webhook::example("1"), Webhook::example("2"));
        {
            let file = WebhookFile::open(directory.path(), false).expect("opened");
            file.put(&[one.clone(), two]).expect("kept");
            file.put(&[Webhook { description: "new".to_owned(), ..one }]).expect("kept");
            file.remove("2").expect("removed");
            file.remove("3").expect("nothing to remove");
        }
        let all = WebhookFile::open(directory.path(), false).expect("opened").all().expect("read");
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].id.as_str(), all[0].description.as_str()), ("1", "new"));
        let file = std::fs::metadata(directory.path().join("management.redb")).expect("a file");
        assert_eq!(file.permissions().mode() & 0o777, 0o600);
    }
}
