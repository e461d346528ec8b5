//! Puts the layers on top of each other: default, file, environment, command line.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::keys::{allowed, refused};
use super::{Config, file};
use crate::arguments::Settings;
use crate::failure::Failure;

/// Read if no other file is named and this one exists.
const FILE: &str = "wilco.toml";

impl Config {
    /// The configuration in force.
    pub(crate) fn load(settings: &Settings) -> Result<Self, Failure> {
        Ok(Self::load_with_file(settings)?.0)
    }

    /// The configuration in force, and the file that is part of it.
    pub(crate) fn load_with_file(settings: &Settings) -> Result<(Self, Option<PathBuf>), Failure> {
        // An empty variable counts as not set.
        Self::load_from(settings, Path::new(FILE), |name| {
            env::var_os(name).filter(|value| !value.is_empty())
        })
    }

    pub(super) fn load_from(
        settings: &Settings,
        default_file: &Path,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<(Self, Option<PathBuf>), Failure> {
        let named =
            settings.config.clone().or_else(|| environment("WILCO_CONFIG").map(PathBuf::from));
        let file = named.or_else(|| default_file.exists().then(|| default_file.to_owned()));
        let mut config = match &file {
            Some(path) => file::read(path)?,
            None => Self::default(),
        };
        config.accepts_loss = settings.accept_loss;
        let layers = Layers { environment: &environment };
        if let Some((data, _)) = layers.value("WILCO_DATA", "--data", &settings.data)? {
            config.store.data = PathBuf::from(data);
        }
        if let Some((text, source)) = layers.value("WILCO_AMQP", "--amqp", &settings.amqp)? {
            let address = text.parse();
            config.listen.amqp = address.map_err(|_| wrong(source, &text, "listen.amqp"))?;
        }
        if let Some((text, source)) = layers.value("WILCO_HTTP", "--http", &settings.http)? {
            let address = text.parse();
            config.listen.http = address.map_err(|_| wrong(source, &text, "listen.http"))?;
        }
        if let Some((filter, _)) = layers.value("WILCO_LOG", "", &None)? {
            config.log.filter = filter;
        }
        // The file was checked on its own, so what is wrong now comes from elsewhere.
        match refused(&config).first() {
            None => Ok((config, file)),
            Some(&"store.data") => Err(wrong("--data or WILCO_DATA", "", "store.data")),
            Some(key) => Err(wrong("WILCO_LOG", &config.log.filter, key)),
        }
    }
}

struct Layers<'l, E> {
    environment: &'l E,
}

impl<E: Fn(&str) -> Option<OsString>> Layers<'_, E> {
    /// The value of the highest layer that has one, and what it is called there.
    fn value(
        &self,
        variable: &'static str,
        flag: &'static str,
        argument: &Option<String>,
    ) -> Result<Option<(String, &'static str)>, Failure> {
        if let Some(value) = argument {
            return Ok(Some((value.clone(), flag)));
        }
        match (self.environment)(variable).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(value)) => Ok(Some((value, variable))),
            Some(Err(_)) => Err(Failure::Usage(format!("{variable} is not UTF-8"))),
        }
    }
}

fn wrong(source: &str, value: &str, key: &str) -> Failure {
    Failure::Usage(format!("{source}: {value:?} is not allowed; expected {}", allowed(key)))
}
